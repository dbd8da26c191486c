"""Pushing and pulling datasets, against a small hub of our own on loopback."""

import shutil

import pytest
import yaml
from export_of_noise import LENGTHS, NAME, SIZE, Items, contents, make_format
from fake_hub import TOKEN, running_hub

from rlgen.core.errors import UserError
from rlgen.data.card import HEADINGS, write_card
from rlgen.data.dataset import FORMATS, open_dataset
from rlgen.data.hub import transfer
from rlgen.data.hub.transfer import plan_push, pull_dataset, push_dataset
from rlgen.data.metrics.quality import dataset_quality
from rlgen.data.verify import verify_dataset
from rlgen.data.writer import write_dataset

REPO = "somebody/stove"
OWN = ("name", "format", "episodes", "steps", "picture_size", "shards", "descriptions")


class Killed(BaseException):
    """Passes through every `except Exception`, as a signal would."""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A dataset with its card in every format."""
    root = tmp_path_factory.mktemp("hub")

    def finish(folder):
        facts = {key: f"about {key}" for key in HEADINGS if key not in OWN}
        facts["licence"] = "CC BY 4.0 (scenes and objects are CC BY 4.0)"
        write_card(folder, facts | {"quality": dataset_quality(open_dataset(folder)).summary()})

    options = {"lengths": LENGTHS, "size": SIZE, "finish": finish}
    return {kind: write_dataset(root, NAME, Items(kind), make_format(kind), **options) for kind in FORMATS}


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # The other way of sending large files, which a small server does not speak.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_pushed_is_pulled_to_the_last_byte(hub, datasets, tmp_path, kind):
    address = push_dataset(plan_push(datasets[kind], REPO))
    assert address == f"{hub.endpoint}/datasets/{REPO}"
    folder = pull_dataset(REPO, tmp_path / "pulled")
    assert contents(folder) == contents(datasets[kind])
    assert verify_dataset(folder) == []
    assert not list(tmp_path.glob(".*"))
    # What is there already is the same.
    assert pull_dataset(REPO, folder) == folder


def test_the_card_of_the_hub_has_front_matter(hub, datasets):
    push_dataset(plan_push(datasets["lerobot"], REPO))
    readme = hub.repos[REPO].commits[-1]["README.md"].decode()
    _, front, text = readme.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["license"] == "cc-by-4.0"
    assert values["task_categories"] == ["robotics"]
    assert {"LeRobot", "libero", "lerobot"} <= set(values["tags"])
    assert values["configs"] == [{"config_name": "default", "data_files": "data/*/*.parquet"}]
    assert values["size_categories"] == ["n<1K"]
    assert text.strip().startswith(f"# {NAME} 1.0.0")


@pytest.mark.parametrize(
    ("kind", "tag"), [("lerobot", "v3.0"), ("lerobot_v21", "v2.1"), ("rlds", "1.0.0"), ("hdf5", "1.0.0")]
)
def test_the_tag_is_the_one_that_readers_look_for(hub, datasets, tmp_path, kind, tag):
    push_dataset(plan_push(datasets[kind], REPO))
    repo = hub.repos[REPO]
    assert repo.tags == {tag: len(repo.commits) - 1}
    assert contents(pull_dataset(REPO, tmp_path / "pulled", revision=tag)) == contents(datasets[kind])
    # It goes along with a later upload.
    repo.commits.append({**repo.commits[-1], "episodes.json": b"[]"})
    push_dataset(plan_push(datasets[kind], REPO))
    assert repo.tags == {tag: len(repo.commits) - 1} and repo.commits[-1] == repo.commits[-3]


def test_a_dry_run_lists_everything_and_asks_nobody(hub, datasets):
    plan = plan_push(datasets["lerobot"], REPO)
    lines = plan.lines()
    for name, data in contents(datasets["lerobot"]).items():
        assert sum(line.split("  ")[-1] == name and f"{len(data):,} B" in line for line in lines) == 1, name
    assert any("task_categories" in line for line in lines)
    assert "tagged v3.0" in lines[-1] and REPO in lines[-1]
    assert hub.requests == []


def test_nothing_but_the_files_of_the_card_is_sent(hub, datasets, tmp_path):
    folder = shutil.copytree(datasets["rlds"], tmp_path / "copy")
    (folder / ".netrc").write_text("secret")
    with pytest.raises(UserError, match=r"\.netrc: not on the card"):
        plan_push(folder, REPO)
    (folder / ".netrc").unlink()
    plan = plan_push(folder, REPO)
    (folder / "notes.txt").write_text("appears after the plan")
    push_dataset(plan)
    sent = set(hub.repos[REPO].commits[-1])
    assert sent == set(contents(datasets["rlds"])) | {"README.md", ".gitattributes"}


def test_an_altered_dataset_is_not_sent(datasets, tmp_path):
    folder = shutil.copytree(datasets["rlds"], tmp_path / "copy")
    (folder / "episodes.json").write_text("[]")
    with pytest.raises(UserError, match=r"episodes\.json: altered"):
        plan_push(folder, REPO)


def test_an_interrupted_upload_resumes_with_what_is_missing(hub, datasets, monkeypatch):
    monkeypatch.setattr(transfer, "FILES_PER_COMMIT", 4)
    plan = plan_push(datasets["rlds"], REPO)

    def kill(done, total):
        if 0 < done < total:
            raise Killed

    with pytest.raises(Killed):
        push_dataset(plan, on_progress=kill)
    first = dict(hub.repos[REPO].commits[-1])
    assert 0 < len(set(first) & set(plan.files)) < len(plan.files)
    assert hub.repos[REPO].tags == {}  # no reader takes half a dataset for a whole one
    seen = []
    push_dataset(plan, on_progress=lambda done, total: seen.append(done))
    assert seen[0] == 4 and seen[-1] == len(plan.files)
    assert len(hub.puts) == len(set(hub.puts))  # no large file was sent twice
    assert set(plan.files) <= set(hub.repos[REPO].commits[-1])
    # Once more: nothing is sent, no commit is made.
    before = len(hub.repos[REPO].commits)
    push_dataset(plan)
    assert len(hub.repos[REPO].commits) == before


def test_a_connection_that_breaks_is_one_line_and_what_arrived_is_kept(hub, datasets):
    plan = plan_push(datasets["rlds"], REPO)
    hub.refuse_put = 2
    with pytest.raises(UserError, match="run the same command again, it resumes") as caught:
        push_dataset(plan)
    assert "\n" not in str(caught.value) and hub.endpoint in str(caught.value)
    arrived, hub.refuse_put = dict(hub.blobs), None
    assert arrived
    hub.puts.clear()
    push_dataset(plan)
    assert not set(hub.puts) & set(arrived)


def test_a_repository_with_other_files_is_left_alone(hub, datasets):
    push_dataset(plan_push(datasets["rlds"], REPO))
    commits = len(hub.repos[REPO].commits)
    with pytest.raises(UserError, match="choose another --repo, or pass --overwrite"):
        push_dataset(plan_push(datasets["lerobot"], REPO))
    assert len(hub.repos[REPO].commits) == commits
    push_dataset(plan_push(datasets["lerobot"], REPO), overwrite=True)
    kept = set(contents(datasets["lerobot"])) | {"README.md", ".gitattributes"}
    assert set(hub.repos[REPO].commits[-1]) == kept


def test_a_card_that_somebody_edited_stays(hub, datasets):
    plan = plan_push(datasets["rlds"], REPO)
    push_dataset(plan)
    repo = hub.repos[REPO]
    repo.commits.append({**repo.commits[-1], "README.md": b"mine"})
    push_dataset(plan)
    assert repo.commits[-1]["README.md"] == b"mine"
    push_dataset(plan, overwrite=True)
    assert repo.commits[-1]["README.md"] == plan.readme.encode()


def test_a_wrong_token_is_one_line(hub, datasets, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    for work in (lambda: push_dataset(plan_push(datasets["rlds"], REPO)), lambda: pull_dataset(REPO, tmp_path / "x")):
        with pytest.raises(UserError, match="the token does not allow it; set HF_TOKEN") as caught:
            work()
        assert "\n" not in str(caught.value) and "hf_wrong" not in str(caught.value)
    assert hub.repos == {} and not (tmp_path / "x").exists()


def test_a_download_that_was_killed_resumes(hub, datasets, tmp_path):
    push_dataset(plan_push(datasets["rlds"], REPO))

    def kill(done, total):
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        pull_dataset(REPO, tmp_path / "pulled", on_progress=kill)
    assert not (tmp_path / "pulled").exists()
    hub.requests.clear()
    assert contents(pull_dataset(REPO, tmp_path / "pulled")) == contents(datasets["rlds"])
    assert (
        sum("resolve" in request and request.startswith("GET") for request in hub.requests)
        == len(contents(datasets["rlds"])) - 3
    )


def test_what_does_not_arrive_as_it_is_stored_is_noticed(hub, datasets, tmp_path):
    push_dataset(plan_push(datasets["rlds"], REPO))
    hub.corrupt = "dataset_info.json"
    with pytest.raises(UserError, match=r"dataset_info\.json: did not arrive as it is stored"):
        pull_dataset(REPO, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_a_pull_replaces_nothing_of_somebody(hub, datasets, tmp_path):
    push_dataset(plan_push(datasets["rlds"], REPO))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="something else than somebody/stove is there; choose another --out"):
        pull_dataset(REPO, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_names_that_lead_out_of_the_folder_are_refused(hub, datasets, tmp_path):
    push_dataset(plan_push(datasets["rlds"], REPO))
    hub.repos[REPO].commits[-1]["../../evil.txt"] = b"x"
    with pytest.raises(UserError, match="would lie outside of the dataset"):
        pull_dataset(REPO, tmp_path / "a" / "pulled")
    assert not list(tmp_path.rglob("evil.txt"))


def test_names_that_are_none_of_a_repository_or_revision(hub, datasets, tmp_path):
    for repo in ("stove", "a/b/c", "../x", "a/b c"):
        with pytest.raises(UserError, match="expected USER/NAME"):
            plan_push(datasets["rlds"], repo)
    push_dataset(plan_push(datasets["rlds"], REPO))
    with pytest.raises(UserError, match="no such --revision"):
        pull_dataset(REPO, tmp_path / "x", revision="v9")
    with pytest.raises(UserError, match="no such dataset, or the token"):
        pull_dataset("somebody/else", tmp_path / "x")


def test_without_a_server_a_pull_says_so_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="run the same command again, it resumes"):
        pull_dataset(REPO, tmp_path / "x")
    assert caplog.text == ""
