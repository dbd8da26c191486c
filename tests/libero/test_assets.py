"""The search for object assets: its order, refused trees, and the cost of a missing network."""

import errno
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from shared import shared_dir

from rlgen.core.errors import UserError
from rlgen.libero.placeholders.tree import MARKER, placeholder_files, write_placeholders
from rlgen.libero.scenes import hub
from rlgen.libero.scenes.assets import check_assets, find_assets, fingerprint, required_files

SCENE = "scenes/libero_floor_base_style.xml"
BUTTER = "stable_hope_objects/butter/butter.xml"


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A machine with no LIBERO of its own and no network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIBERO_CONFIG_PATH", str(tmp_path / "config"))
    for name in ("RLGEN_LIBERO_ASSETS", "RLGEN_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return use_hub(monkeypatch, Hub())


class Hub:
    """A stub of the hub's client: what its cache has, what a download gives, and how late it answers."""

    def __init__(self, cached=None, online=None, patience=0.0):
        self.cached, self.online, self.patience, self.calls = cached, online, patience, []

    def snapshot_download(self, name, *, repo_type, local_files_only=False):
        assert (name, repo_type) == ("lerobot/libero-assets", "dataset")
        self.calls.append("cache" if local_files_only else "download")
        tree = self.cached if local_files_only else self.online
        if tree is None:
            raise OSError("no such snapshot\nand a second line")
        return str(tree)

    def repo_info(self, name, *, repo_type, timeout):
        self.calls.append("ask")
        time.sleep(self.patience)
        if self.online is None:
            raise ConnectionError("no route")


def use_hub(monkeypatch, stub):
    client = SimpleNamespace(snapshot_download=stub.snapshot_download, HfApi=lambda: stub)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    return stub


@pytest.fixture
def tree(tmp_path):
    """A complete tree that is taken for the benchmark's own, with references to one mesh and one texture."""
    return plain_tree(tmp_path / "tree")


def plain_tree(path: Path) -> Path:
    for name, data in placeholder_files().items():
        if name != MARKER:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    folder = (path / BUTTER).parent
    (folder / "visual").mkdir()
    (folder / "visual/butter.msh").write_bytes(b"mesh")
    (folder / "face.png").write_bytes(b"picture")
    references = '<mesh file="visual/butter.msh" name="m"/><texture file="face.png" name="t" type="2d"/>'
    text = (path / BUTTER).read_text()
    (path / BUTTER).write_text(text.replace("<asset>", f"<asset>{references}"))
    return path


def configure(folder: Path, text: str) -> None:
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(text)


def test_placeholder_assets_come_last_and_are_written_once(tmp_path, alone):
    first = find_assets(cache=tmp_path / "cache")
    stamp = (first.path / SCENE).stat().st_mtime_ns
    again = find_assets(cache=tmp_path / "cache", placeholders=True)
    assert first == again and first.kind == "placeholder" and "placeholder" in first.label
    assert (again.path / SCENE).stat().st_mtime_ns == stamp
    assert alone.calls == ["cache", "ask"]


def test_order(tmp_path, tree, monkeypatch):
    stub = use_hub(monkeypatch, Hub(online=plain_tree(tmp_path / "online")))
    source = find_assets(cache=tmp_path)
    assert (source.kind, source.path.name) == ("hub", "online")
    stub.cached = plain_tree(tmp_path / "cached")
    assert find_assets(cache=tmp_path).path.name == "cached"
    shutil.copytree(tree, tmp_path / "home/.cache/libero/assets")
    assert find_assets(cache=tmp_path).path.name == "assets"
    configure(tmp_path, f"assets: {plain_tree(tmp_path / 'installed')}\ndatasets: /nowhere\n")
    assert find_assets(cache=tmp_path).kind == "installed"
    monkeypatch.setenv("RLGEN_LIBERO_ASSETS", str(tree))
    assert find_assets(cache=tmp_path).kind == "folder"
    assert find_assets(tmp_path / "cached", cache=tmp_path).path.name == "cached"
    assert find_assets(tree, cache=tmp_path, placeholders=True).kind == "placeholder"


@pytest.mark.parametrize("text", ["assets: /nowhere\n", "assets: [\n", "- a list\n", "assets: 7\n", "\x00"])
def test_a_configuration_without_usable_assets_is_skipped(tmp_path, text):
    configure(tmp_path, text)
    assert find_assets(cache=tmp_path).kind == "placeholder"


def test_placeholder_assets_are_never_taken_for_the_real_ones(tmp_path):
    """A configuration may point to the placeholder assets of an earlier run."""
    write_placeholders(tmp_path / "written")
    configure(tmp_path, f"assets: {tmp_path / 'written'}\n")
    assert find_assets(cache=tmp_path).path != tmp_path / "written"
    assert find_assets(tmp_path / "written", cache=tmp_path).kind == "placeholder"


def test_an_incomplete_hub_cache_is_fetched_again(tmp_path, tree, monkeypatch):
    stub = use_hub(monkeypatch, Hub(cached=plain_tree(tmp_path / "partial"), online=tree))
    (tmp_path / "partial" / BUTTER).unlink()
    lines = []
    assert find_assets(cache=tmp_path, log=lines.append).path == tree
    assert stub.calls == ["cache", "ask", "download"]
    assert len(lines) == 1 and "downloading" in lines[0]


def test_after_an_incomplete_download_the_placeholder_assets_are_used(tmp_path, tree, monkeypatch):
    (tree / BUTTER).write_bytes(b"")
    use_hub(monkeypatch, Hub(online=tree))
    lines = []
    assert find_assets(cache=tmp_path, log=lines.append).kind == "placeholder"
    assert "incomplete" in lines[-1]


@pytest.mark.parametrize("name", ["RLGEN_OFFLINE", "HF_HUB_OFFLINE", None])
def test_offline_the_hub_is_not_asked_but_its_cache_is_used(tmp_path, tree, monkeypatch, name):
    stub = use_hub(monkeypatch, Hub(online=tree))
    if name:
        monkeypatch.setenv(name, "1")
    assert find_assets(cache=tmp_path, download=name is not None).kind == "placeholder"
    assert stub.calls == ["cache"]
    stub.cached = tree
    assert find_assets(cache=tmp_path, download=name is not None).kind == "hub"


def test_a_hub_that_never_answers_times_out(tmp_path, tree, monkeypatch):
    use_hub(monkeypatch, Hub(online=tree, patience=3.0))
    monkeypatch.setattr(hub, "TIMEOUT", 0.1)
    lines, start = [], time.monotonic()
    assert find_assets(cache=tmp_path, log=lines.append).kind == "placeholder"
    assert time.monotonic() - start < 2.0
    assert "no answer" in lines[0] and "\n" not in lines[0]


def test_without_the_hub_client(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert find_assets(cache=tmp_path).kind == "placeholder"


def test_assets_inside_the_package_are_found_without_importing_it(tmp_path, monkeypatch):
    plain_tree(tmp_path / "libero/libero/assets")
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path / "libero")])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: package)
    monkeypatch.setitem(sys.modules, "libero.libero", None)
    source = find_assets(cache=tmp_path)
    assert (source.kind, source.path) == ("installed", tmp_path / "libero/libero/assets")


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "parent"])
def test_a_given_folder_that_cannot_be_used_is_refused(tmp_path, tree, kind):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    path = tree.parent if kind == "parent" else tmp_path / kind
    with pytest.raises(UserError) as caught:
        find_assets(path, cache=tmp_path / "cache")
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert required_files()[0] in message if kind in ("empty", "parent") else "folder" in message
    assert not (tmp_path / "cache").exists()


def damage(tree: Path, fault: str) -> str:
    """Damages one file and returns the name that the message must have."""
    folder = (tree / BUTTER).parent
    match fault:
        case "mesh missing":
            (folder / "visual/butter.msh").unlink()
            return "visual/butter.msh"
        case "texture empty":
            (folder / "face.png").write_bytes(b"")
            return "face.png"
        case "cut short":
            (tree / BUTTER).write_text((tree / BUTTER).read_text()[:200])
        case "not XML":
            (tree / BUTTER).write_bytes(b"\xff\xfe\x00version https://git-lfs")
        case "other XML":
            (tree / BUTTER).write_text("<html/>")
        case "a folder":
            (tree / BUTTER).unlink()
            (tree / BUTTER).mkdir()
    return "butter.xml"


FAULTS = ["mesh missing", "texture empty", "cut short", "not XML", "other XML", "a folder"]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_message_for_a_damaged_tree_names_the_file(tree, fault):
    name = damage(tree, fault)
    with pytest.raises(UserError) as caught:
        check_assets(tree)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    check_assets(tree, [SCENE])


def test_textures_that_the_style_replaces_need_not_exist(tree):
    text = (tree / SCENE).read_text().replace("light-gray-floor-tile.png", "of_another_style.png")
    (tree / SCENE).write_text(text)
    check_assets(tree)
    (tree / "textures/light-gray-floor-tile.png").unlink()
    with pytest.raises(UserError, match="light-gray-floor-tile"):
        check_assets(tree)


def test_a_full_disk_is_reported_in_one_line(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device") as caught:
        find_assets(cache=tmp_path / "cache", placeholders=True)
    assert str(tmp_path / "cache") in str(caught.value)


def test_the_fingerprint_depends_on_contents_and_not_on_path_or_time(tmp_path, tree):
    key = fingerprint(tree)
    copy = shutil.copytree(tree, tmp_path / "copy")
    os.utime(copy / BUTTER, (0, 0))
    (copy / ".cache").mkdir()
    (copy / ".cache/state").write_text("kept by the hub's client")
    assert fingerprint(copy) == key
    text = (copy / BUTTER).read_text()
    (copy / BUTTER).write_text(text.replace("0.0381", "0.0382"))
    assert fingerprint(copy) != key
    (copy / BUTTER).write_text(text)
    (copy / "stable_hope_objects/butter/face.png").write_bytes(b"another image")
    assert fingerprint(copy) != key


def test_the_benchmarks_own_tree_is_complete_and_checked_fast():
    tree = shared_dir("libero/assets")
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        check_assets(tree)
        fingerprint(tree)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3
