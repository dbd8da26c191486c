"""Episodes that go from each format into each other one and come back as they were."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from export_of_noise import NAME, STEPS, make_demo
from moving_images import moving_images

from rlgen.data.dataset import ENCODED_FORMATS
from rlgen.data.formats.hdf5.format import Hdf5Format
from rlgen.data.formats.hdf5.layout import DemoFileInfo, DemoImages
from rlgen.data.writer import write_dataset

SIZE = 64
SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "round_trips.py"


def load_script():
    spec = importlib.util.spec_from_file_location("round_trips", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_and_texts_are_equal_in_all_and_encoded_images_stay_as_they_are(tmp_path):
    pytest.importorskip("av")
    demos = [
        replace(make_demo(index), images=DemoImages(*(moving_images(STEPS, SIZE, index + turn) for turn in (0, 9))))
        for index in range(3)
    ]
    info = DemoFileInfo("Libero_X", "libero_object/task_0.bddl", "push", "<mujoco/>")
    format = Hdf5Format(["libero_object/task_0"], lambda _: info)
    whole = write_dataset(tmp_path / "hdf5", NAME, demos, format, lengths=[len(demos)], size=SIZE)
    formats = (*ENCODED_FORMATS, "lerobot_av1", "lerobot_v21_h264")
    found = load_script().round_trips(whole, tmp_path / "trips", formats)
    trips = found["trips"]
    assert found["episodes"] == len(demos) and len(trips) == len(formats) ** 2
    assert all(trip["numbers"] and trip["texts"] for trip in trips.values())
    for name, trip in trips.items():
        source, target = name.split(" to ")
        assert trip["bytes"] == trip["pixels"] == ({source, target} <= set(ENCODED_FORMATS)), name
        assert trip["pixels"] or trip["psnr_db"] > 30
