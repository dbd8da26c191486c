"""Pictures without a GL library, a few milliseconds each."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from rlgen.libero.rendering import raster, shading
from rlgen.libero.rendering.triangles import Triangles, read_triangles
from rlgen.libero.scenes.indicators import Indicators

CAMERAS = ("agentview", "robot0_eye_in_hand")


def camera_ids(model: mujoco.MjModel, cameras: Sequence[str]) -> list[int]:
    """Ids of cameras by name.

    Raises:
      ValueError: if the model has no camera of that name.
    """
    known = [model.camera(i).name for i in range(model.ncam)]
    missing = [name for name in cameras if name not in known]
    if missing:
        raise ValueError(f"no camera named {missing[0]!r}: expected one of {', '.join(known) or 'none'}")
    return [known.index(name) for name in cameras]


@dataclass(frozen=True)
class _Buffers:
    """Memory that a view writes over and over; the names are those of `raster` and `view_pixels`."""

    world: np.ndarray
    facing: np.ndarray
    shade: np.ndarray
    camera: np.ndarray
    light: np.ndarray
    edges: np.ndarray
    spans: np.ndarray
    depth: np.ndarray
    owner: np.ndarray
    owners: np.ndarray
    rays: np.ndarray
    pixels: np.ndarray
    sums: np.ndarray


def _buffers(vertices: int, faces: int, size: int) -> _Buffers:
    pixels = size * size
    return _Buffers(
        world=np.empty((vertices, 3)),
        facing=np.empty((vertices, 3)),
        shade=np.empty(vertices),
        camera=np.empty((vertices, 3)),
        light=np.empty(vertices),
        edges=np.zeros((faces, 9)),
        spans=np.empty((faces, 4), np.int64),
        depth=np.empty((2 * size, 2 * size), np.float32),
        owner=np.empty((2 * size, 2 * size), np.int32),
        owners=np.empty(4 * pixels, np.int64),
        rays=np.empty((4 * pixels, 3)),
        pixels=np.empty(4 * pixels, np.int64),
        sums=np.empty((pixels, 4)),
    )


class SoftwareRenderer:
    """Draws what the benchmark shows as lit, simplified triangles: no shadows, no gloss, nothing see-through.

    Four samples a pixel. One view serves one thread at a time; views of one model may share `triangles`.
    Equal states give equal bytes.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        cameras: Sequence[str] = CAMERAS,
        image_size: int = 128,
        triangles: Triangles | None = None,
    ):
        """Builds the view.

        Args:
          model: the scene; visible geoms are in group 1 or 2.
          cameras: names, in the order of the pictures.
          image_size: width and height, pixels.
          triangles: of the same model, from another view, to save building them.

        Raises:
          ValueError: for an unknown camera, or a model with nothing to see.
        """
        self.model, self.image_size = model, image_size
        self._cameras = camera_ids(model, cameras)
        self.triangles = triangles or read_triangles(model)
        self._data, self._indicators = mujoco.MjData(model), Indicators(model)
        self._buffers = _buffers(len(self.triangles.vertices), len(self.triangles.faces), image_size)

    def render(self, qpos: Float[np.ndarray, " nq"]) -> UInt8[np.ndarray, "cameras size size 3"]:
        """Renders the scene at joint positions `qpos`, in the benchmark's raw orientation."""
        t, b, data = self.triangles, self._buffers, self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_camlight(self.model, data)
        self._indicators.hide_unlit(data)
        frames = data.geom_xpos, data.geom_xmat
        raster.place(t.vertices, t.normals, t.geoms, *frames, self._lights(), b.world, b.facing, b.shade)
        images = np.empty((len(self._cameras), self.image_size, self.image_size, 3), np.uint8)
        for camera, image in zip(self._cameras, images, strict=True):
            self._render_camera(camera, image)
        return images

    def close(self) -> None:
        """Does nothing; there is nothing to free."""

    def _render_camera(self, camera: int, image: UInt8[np.ndarray, "size size 3"]) -> None:
        t, b, samples = self.triangles, self._buffers, 2 * self.image_size
        position, rotation = self._data.cam_xpos[camera], self._data.cam_xmat[camera]
        step = float(2 * np.tan(np.deg2rad(self.model.cam_fovy[camera]) / 2) / samples)
        near = float(self.model.vis.map.znear * self.model.stat.extent)
        points = b.world, b.facing, b.shade, t.faces
        lens = position, rotation, self._head(), step, samples, near
        raster.project(*points, *lens, b.camera, b.light, b.edges, b.spans)
        raster.cover(b.edges, b.spans, step, near, b.depth, b.owner)
        count = shading.gather(b.owner, step, b.owners, b.rays, b.pixels)
        listed = count, b.owners, b.rays, b.pixels, step, b.edges, t.faces
        looks = b.light, t.paint, t.tint, t.texture, t.density, t.textures.texels, t.textures.levels
        shading.shade(*listed, *looks, b.sums)
        shading.finish(b.sums, t.background, image)

    def _head(self) -> tuple[float, float]:
        """Light that the camera casts, and light that is everywhere."""
        model, head = self.model, self.model.vis.headlight
        everywhere = model.light_ambient[model.light_active.astype(bool)].sum(axis=0).mean()
        if not head.active:
            return 0.0, float(everywhere)
        return float(np.mean(head.diffuse)), float(everywhere + np.mean(head.ambient))

    def _lights(self) -> Float[np.ndarray, "L 10"]:
        model, data = self.model, self._data
        columns = [
            data.light_xpos,
            data.light_xdir,
            model.light_diffuse.mean(axis=1),
            np.cos(np.deg2rad(model.light_cutoff)),
            model.light_exponent,
            model.light_type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        ]
        return np.column_stack(columns)[model.light_active.astype(bool)].astype(float)
