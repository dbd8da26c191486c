"""Cameras of others' datasets: which is the fixed one and which is at the hand, by their names."""

import re
from collections.abc import Iterable

from rlgen.core.errors import UserError

CAMERAS = ("image", "wrist_image")
"""Our names of the fixed camera, and of that at the hand."""
_AT_HAND = re.compile(r"wrist|hand|gripper|image_?2$")


def choose_cameras(names: Iterable[str], where: str) -> dict[str, str]:
    """Returns the names of those of `CAMERAS` that there are.

    Args:
      names: of all cameras.
      where: the dataset, for messages.

    Raises:
      UserError: there is none, or more than one of a kind.
    """
    names = list(names)
    at_hand = [name for name in names if _AT_HAND.search(name.lower())]
    fixed = [name for name in names if name not in at_hand]
    if len(fixed) > 1 or len(at_hand) > 1 or not names:
        raise UserError(
            f"{where}: cameras {', '.join(names) or 'none'}; expected one that is fixed and one at the hand, "
            "whose name has `wrist`, `hand`, `gripper` or `image2` in it: leave the others out"
        )
    return {ours: name for ours, found in zip(CAMERAS, (fixed, at_hand), strict=True) for name in found}
