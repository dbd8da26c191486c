"""RLDS as the LIBERO community has it: all that other rooms use."""

from rlgen.data.card import write_card
from rlgen.data.frames import EncodedFrames
from rlgen.data.rlds_episode import RldsEpisode, pair_episode
from rlgen.data.rlds_export import export_rlds
from rlgen.data.rlds_reader import RldsDataset, iterate_examples, read_rlds

__all__ = [
    "EncodedFrames",
    "RldsDataset",
    "RldsEpisode",
    "export_rlds",
    "iterate_examples",
    "pair_episode",
    "read_rlds",
    "write_card",
]
