"""Demonstrations in LIBERO's HDF5 layout: all that other rooms use."""

from rlgen.data.hdf5_layout import DemoFileInfo, DemoPictures
from rlgen.data.hdf5_reader import (
    observed_before_action,
    prompt_from_name,
    read_demos,
    read_info,
    read_robot_states,
)
from rlgen.data.hdf5_writer import write_demos

__all__ = [
    "DemoFileInfo",
    "DemoPictures",
    "observed_before_action",
    "prompt_from_name",
    "read_demos",
    "read_info",
    "read_robot_states",
    "write_demos",
]
