"""Pictures of demonstrations in LIBERO's HDF5 layout."""

from pathlib import Path

from rlgen.data.hdf5_access import array, child, opened
from rlgen.data.hdf5_layout import DemoPictures
from rlgen.errors import UserError


def read_pictures(path: Path, name: str) -> DemoPictures:
    """The pictures of demonstration `name`, as the renderer gave them; `UserError` where there are none."""
    with opened(path) as file:
        obs = child(child(child(file, "data", path), name, path), "obs", path)
        views = [array(obs, key, path) for key in ("agentview_rgb", "eye_in_hand_rgb")]
    if any(view.ndim != 4 or view.shape[-1] != 3 or view.dtype != "uint8" for view in views):
        raise UserError(
            f"{path}: /data/{name}/obs: pictures of {[view.shape for view in views]}, expected (T, h, w, 3)"
        )
    return DemoPictures(*views)
