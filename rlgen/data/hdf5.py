"""Demonstrations in LIBERO's HDF5 layout: all that other rooms use."""

from rlgen.data.hdf5_layout import Demo, DemoFileInfo, DemoPictures
from rlgen.data.hdf5_reader import (
    iterate_demos,
    observed_before_action,
    prompt_from_name,
    read_demos,
    read_info,
    read_model_files,
    read_robot_states,
)
from rlgen.data.hdf5_writer import stream_demos, write_demos

__all__ = [
    "Demo",
    "DemoFileInfo",
    "DemoPictures",
    "iterate_demos",
    "observed_before_action",
    "prompt_from_name",
    "read_demos",
    "read_info",
    "read_model_files",
    "read_robot_states",
    "stream_demos",
    "write_demos",
]
