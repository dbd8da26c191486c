"""Our datasets, opened by the readers that people have, each in an environment of its own; and lerobot's, opened by us.

Command:  uv run python experiments/readers/run.py --work DIR [--find-links DIR] [--only NAME ...] [--placeholders]
Cost:     half an hour on two cores; environments of 10 GB, of which torch is most, below `--work`, where they stay.
Expected: every reader accepts what it is for, with all numbers equal; images equal to the last bit where the decoder is
          the same, within a few levels where another one decodes JPEG.

Records some episodes of a task by the scripted expert, exports them in all formats, and gives each to the scripts
beside this one, which import nothing of this project. Results go to experiments/results/readers.json, each reader's as
it comes; what is there is not run again unless `--only` names it. One that cannot be installed leaves the reason.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "readers.json"
TASK, EPISODES, SIZE = "libero_object/6", 3, 256
LEROBOT = ("lerobot", "lerobot_av1", "lerobot_h264")
LEROBOT_V21 = ("lerobot_v21", "lerobot_v21_av1", "lerobot_v21_h264")
FORMATS = ("hdf5", "rlds", "array_record", *LEROBOT, *LEROBOT_V21)
OPENPI_LEROBOT = "lerobot @ git+https://github.com/huggingface/lerobot@0cf864870cf29f4738d3ade893e6fd13fbd7cdb5"
ONE_TORCH = ("torch==2.11.0", "torchvision==0.26.0")


@dataclass(frozen=True)
class Reader:
    """A reader with its environment.

    Attributes:
      script: beside this file; takes its options, then for each dataset its folder and the file to write to.
      python: version.
      packages: to install.
      formats: that it opens.
      overrides: versions against what the packages ask for.
      alone: packages that are installed without what they ask for.
      options: of the script.
    """

    script: str
    python: str
    packages: tuple[str, ...]
    formats: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


READERS = {
    "lerobot, newest": Reader("read_lerobot.py", "3.12", ("lerobot[dataset]",), LEROBOT, options=("pyav",)),
    "lerobot, newest, by torchcodec": Reader(
        "read_lerobot.py", "3.12", ("lerobot[dataset]",), LEROBOT[1:], options=("torchcodec",)
    ),
    "lerobot 0.4.4": Reader(
        "read_lerobot.py",
        "3.11",
        ("lerobot==0.4.4",),
        LEROBOT,
        overrides=(*ONE_TORCH, "torchcodec==0.11.1"),
        options=("torchcodec",),
    ),
    "lerobot of openpi (pinned commit), by its converter from RLDS": Reader(
        "read_openpi.py",
        "3.11",
        (OPENPI_LEROBOT, "datasets==3.6.0", "pyarrow<21", "numpy<2", "av", "tensorflow-cpu", "tensorflow-datasets"),
        ("rlds",),
        overrides=ONE_TORCH,
    ),
    "lerobot 0.3.3": Reader(
        "read_lerobot_v21.py",
        "3.11",
        ("lerobot==0.3.3", "huggingface-hub<1"),
        LEROBOT_V21,
        overrides=(*ONE_TORCH, "torchcodec==0.11.1"),
    ),
    "lerobot of openpi (pinned commit)": Reader(
        "read_lerobot_v21.py",
        "3.11",
        (OPENPI_LEROBOT, "datasets==3.6.0", "huggingface-hub<1", "pyarrow<21", "numpy<2"),
        LEROBOT_V21,
        overrides=(*ONE_TORCH, "torchcodec==0.11.1"),
    ),
    "ray.data.read_lerobot": Reader("read_ray.py", "3.12", ("ray[data]", "lerobot[dataset]"), LEROBOT),
    "tensorflow_datasets": Reader(
        "read_tfds.py",
        "3.11",
        ("tensorflow-cpu", "tensorflow-datasets", "array-record", "importlib_resources", "pillow"),
        ("rlds", "array_record"),
    ),
    "robomimic": Reader(
        "read_robomimic.py",
        "3.11",
        ("torch==2.13.0", "numpy<2", "h5py", "psutil", "tqdm", "termcolor", "six"),
        ("hdf5",),
        alone=("robomimic==0.3.0",),
    ),
}
WRITERS = {
    "lerobot, newest": ("written by lerobot", "write_lerobot.py"),
    "lerobot 0.3.3": ("written by lerobot 0.3.3", "write_lerobot_v21.py"),
}
"""The readers whose environments write the datasets that we open, with the name of the result and the script."""


def main() -> None:
    """Records, exports, and runs every reader that has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for data and environments, which stay")
    parser.add_argument("--find-links", type=Path, help="folder of wheels, such as torch for CPUs alone")
    parser.add_argument("--only", nargs="+", default=[], help="run these readers again, and no others")
    parser.add_argument("--placeholders", action="store_true", help="placeholder assets instead of the benchmark's")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    folders = export(arguments.work.absolute(), arguments.placeholders)
    results = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    results |= {"task": TASK, "assets": "placeholders" if arguments.placeholders else "benchmark"}
    known = results.setdefault("formats", {})
    if set(FORMATS) - known.keys():
        known |= measure({kind: folders[kind] for kind in FORMATS if kind == "hdf5" or kind not in known})
    write(results, arguments.out)
    for name, reader in READERS.items():
        if name in arguments.only or (not arguments.only and name not in results.get("readers", {})):
            folder = arguments.work.absolute() / "environments" / _slug(name)
            try:
                python = make_environment(reader, folder, arguments.find_links)
            except subprocess.CalledProcessError as error:
                results.setdefault("readers", {})[name] = {"not installed": reason(error)}
                write(results, arguments.out)
                continue
            seen = run_reader(python, reader, folders)
            results.setdefault("readers", {})[name] = seen
            if name in WRITERS:
                result, script = WRITERS[name]
                results[result] = read_theirs(python, script, folders["hdf5"], arguments.work.absolute())
            write(results, arguments.out)
            print(json.dumps({name: seen}, indent=2), flush=True)


def write(results: dict[str, Any], path: Path) -> None:
    """Stores what is known so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


def export(work: Path, placeholders: bool) -> dict[str, Path]:
    """Records the task and exports it in every format, unless that is done; returns the folders."""
    from rlgen.data.dataset import dataset_folders, dataset_format

    found = {str(dataset_format(folder)): folder for folder in dataset_folders(work / "datasets")}
    if set(FORMATS) <= found.keys():
        return found
    assets = ["--placeholders"] if placeholders else []
    rlgen = [sys.executable, "-m", "rlgen"]
    demos, out = work / "demos", work / "datasets"
    subprocess.run(
        [*rlgen, "demos", "record", TASK, "--episodes", str(EPISODES), "--out", str(demos), *assets], check=True
    )
    size = ["--image-size", str(SIZE), "--shards", "2"]
    subprocess.run(
        [*rlgen, "data", "export", str(demos), "--out", str(out), *size, *assets, "--format", *FORMATS], check=True
    )
    return {str(dataset_format(folder)): folder for folder in dataset_folders(out)}


def measure(folders: dict[str, Path]) -> dict[str, Any]:
    """Returns for each format its size, and how close its images are to what was rendered.

    Args:
      folders: of the datasets, by format; HDF5 has the images as they were rendered.
    """
    from rlgen.data.dataset import open_dataset

    rendered, measured = list(open_dataset(folders["hdf5"])), {}
    for kind, folder in folders.items():
        episodes = list(open_dataset(folder))
        decibels = {
            name: psnr(*(np.concatenate([np.asarray(getattr(e, name)) for e in part]) for part in (rendered, episodes)))
            for name in ("image", "wrist_image")
        }
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        measured[kind] = {"bytes": size, "frames": sum(map(len, episodes)), "psnr_db": decibels}
    return measured


def psnr(one: np.ndarray, other: np.ndarray) -> float | None:
    """Returns the peak signal-to-noise ratio of 8-bit images, dB; None where they are equal."""
    error = np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2)
    return round(float(10 * np.log10(255**2 / error)), 2) if error else None


def environment_commands(reader: Reader, folder: Path, find_links: Path | None) -> list[list[str]]:
    """Returns the commands that make the environment of a reader.

    Args:
      reader: to install.
      folder: of the environment.
      find_links: folder of further wheels.
    """
    install = ["uv", "pip", "install", "--python", str(folder / "bin" / "python")]
    install += ["--find-links", str(find_links)] if find_links else []
    commands = [["uv", "venv", "--clear", "--python", reader.python, str(folder)]]
    commands += [[*install, "--no-deps", *reader.alone]] if reader.alone else []
    overrides = ["--override", str(folder / "overrides.txt")] if reader.overrides else []
    return [*commands, [*install, *overrides, *reader.packages]]


def make_environment(reader: Reader, folder: Path, find_links: Path | None) -> Path:
    """Installs a reader, unless it is there; returns the interpreter."""
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.is_file():
        for command in environment_commands(reader, folder, find_links):
            # Elsewhere than in this project, whose constraints are not for others.
            place = folder.parent if folder.parent.is_dir() else "/"
            subprocess.run(command, check=True, cwd=place, stderr=subprocess.PIPE, text=True)
            if command[1] == "venv":
                (folder / "overrides.txt").write_text("\n".join(reader.overrides))
        link_ffmpeg(folder)
        done.touch()
    return python


def reason(error: subprocess.CalledProcessError) -> str:
    """Returns what was to be installed, and the line in which the installer says why it was not."""
    cross = "\N{MULTIPLICATION SIGN}"
    lines = [line.strip() for line in (error.stderr or "").splitlines()]
    said = next((line for line in lines if line.startswith((cross, "error:"))), "no reason")
    return f"{error.cmd[-1]}: {said.removeprefix(cross).strip()}"[:500]


def link_ffmpeg(environment: Path) -> None:
    """Gives the FFmpeg libraries of PyAV the names by which torchcodec looks for them, in the folder `ffmpeg`."""
    links = environment / "ffmpeg"
    links.mkdir(exist_ok=True)
    for library in environment.glob("lib/python*/site-packages/av.libs/lib*.so.*"):
        name, version = library.name.split("-")[0], library.name.split(".so.")[1].split(".")[0]
        (links / library.name).symlink_to(library)
        if name.startswith(("libav", "libsw")):
            (links / f"{name}.so.{version}").symlink_to(library)


def environment_of(python: Path) -> dict[str, str]:
    """Returns the variables for an interpreter of another environment."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment = python.parents[1]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(environment / "huggingface"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Below `uv run` Ray starts its workers by it as well, with the packages of this project.
    return {**clean, **offline, "LD_LIBRARY_PATH": str(environment / "ffmpeg"), "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


def run_script(python: Path, script: str, arguments: Sequence[str]) -> str:
    """Runs a script in another environment; returns an error's last line, or an empty text.

    Args:
      python: interpreter of the environment.
      script: beside this file.
      arguments: of the script.
    """
    command = [str(python), str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment_of(python), timeout=3600)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip() or "no reason").splitlines()[-1][:500]


def run_reader(python: Path, reader: Reader, folders: dict[str, Path]) -> dict[str, Any]:
    """Gives datasets to a reader, one after the other, and returns how what it read compares with what we read.

    Args:
      python: interpreter of its environment.
      reader: to run.
      folders: of the datasets, by format.
    """
    outs = {kind: python.parents[1] / f"{kind}.npz" for kind in reader.formats}
    for out in outs.values():
        out.unlink(missing_ok=True)
    pairs = [str(path) for kind, out in outs.items() for path in (folders[kind], out)]
    error = run_script(python, reader.script, [*reader.options, *pairs])
    seen: dict[str, Any] = {}
    for kind, out in outs.items():
        if out.is_file():
            with np.load(out) as stored:
                seen[kind] = {"accepted": True, **compare(contents(folders[kind]), dict(stored))}
        else:
            seen[kind] = {"accepted": False, "error": error}
    return seen


def read_theirs(python: Path, script: str, folder: Path, work: Path) -> dict[str, Any]:
    """Lets lerobot write our episodes, as video and as images, and returns how what we read compares.

    Args:
      python: interpreter of its environment.
      script: that writes them.
      folder: of a dataset of ours as HDF5.
      work: for files.
    """
    given, results = work / "episodes.npz", {}
    from rlgen.data.dataset import open_dataset

    episodes = list(open_dataset(folder))
    arrays = {
        name: np.concatenate([np.asarray(getattr(e, name)) for e in episodes]) for name in ("image", "wrist_image")
    }
    np.savez(given, **arrays, **contents(folder))
    for kind in ("video", "image"):
        out = work / "by_lerobot" / kind
        shutil.rmtree(out, ignore_errors=True)
        error = run_script(python, script, [str(given), str(out), kind, str(work / "written.npz")])
        if error:
            results[kind] = {"accepted": False, "error": error}
            continue
        with np.load(work / "written.npz") as stored:
            results[kind] = {"accepted": True, **compare(contents(out), dict(stored))}
    return results


def contents(folder: Path) -> dict[str, Any]:
    """Returns what this project reads of a dataset, in the names of the scripts."""
    from rlgen.data.dataset import open_dataset

    episodes = list(open_dataset(folder))
    return {
        "lengths": np.array([len(episode) for episode in episodes]),
        "actions": np.concatenate([episode.action for episode in episodes]),
        "states": np.concatenate([episode.state for episode in episodes]),
        "prompts": np.array([episode.language_instruction for episode in episodes]),
        "first_image": np.stack([np.asarray(episode.image[0]) for episode in episodes]),
        "first_wrist_image": np.stack([np.asarray(episode.wrist_image[0]) for episode in episodes]),
    }


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Returns how two readings of a dataset compare.

    Args:
      ours: what `contents` returns.
      theirs: likewise, with `version`; arrays of other types are compared in ours.
    """
    result: dict[str, Any] = {"version": str(theirs.get("version", ""))}
    result |= {"episodes": len(theirs["lengths"]), "frames": int(np.sum(theirs["lengths"]))}
    result["lengths equal"] = bool(np.array_equal(ours["lengths"], theirs["lengths"]))
    result["prompts equal"] = [str(text) for text in ours["prompts"]] == [str(text) for text in theirs["prompts"]]
    for name in ("actions", "states"):
        same = np.shape(ours[name]) == np.shape(theirs[name])
        result[f"{name} equal"] = same and bool(np.array_equal(ours[name], np.asarray(theirs[name], ours[name].dtype)))
    for name in ("first_image", "first_wrist_image"):
        one, two = np.asarray(ours[name]), np.asarray(theirs[name])
        same = one.shape == two.shape
        result[name.replace("_", " ")] = {
            "sha256": hashlib.sha256(np.ascontiguousarray(two).tobytes()).hexdigest()[:16],
            "largest difference": int(np.abs(one.astype(int) - two.astype(int)).max()) if same else None,
        }
    return result


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


if __name__ == "__main__":
    main()
