"""The software renderer: images without a GL library, a few milliseconds each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from rlgen.libero.rendering import raster, shading
from rlgen.libero.rendering.triangles import Triangles, read_triangles
from rlgen.libero.scenes.fixtures import NOT_MOVED, move_bodies
from rlgen.libero.scenes.indicators import Indicators

CAMERAS = ("agentview", "robot0_eye_in_hand")


def camera_ids(model: mujoco.MjModel, cameras: Sequence[str]) -> list[int]:
    """Returns the ids of cameras by name.

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
    """Arrays that a renderer writes for every image; the names are those of `raster` and `shading`."""

    world_points: np.ndarray
    world_normals: np.ndarray
    received: np.ndarray
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
        world_points=np.empty((vertices, 3)),
        world_normals=np.empty((vertices, 3)),
        received=np.empty(vertices),
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
    """Renders the geoms that the benchmark shows as lit, simplified triangles: no shadows, gloss or transparency.

    A pixel has four samples. A renderer serves one thread at a time; renderers of one model may share `triangles`.
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
        """Makes the renderer.

        Args:
          model: the scene; visible geoms are in group 1 or 2.
          cameras: names, in the order of the images.
          image_size: width and height, pixels.
          triangles: of the same model, from another renderer; built by default.

        Raises:
          ValueError: for an unknown camera, or a model without visible geoms.
        """
        self.model, self.image_size = model, image_size
        self._cameras = camera_ids(model, cameras)
        self.triangles = triangles or read_triangles(model)
        self._data, self._indicators = mujoco.MjData(model), Indicators(model)
        self._buffers = _buffers(len(self.triangles.vertices), len(self.triangles.faces), image_size)

    def render(
        self, qpos: Float[np.ndarray, " nq"], moved: Mapping[int, Float[np.ndarray, "7"]] = NOT_MOVED
    ) -> UInt8[np.ndarray, "cameras size size 3"]:
        """Renders the scene; arguments as of `Renderer.render`."""
        t, b, data = self.triangles, self._buffers, self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_camlight(self.model, data)
        move_bodies(self.model, data, moved)
        self._indicators.hide_unlit(data)
        frames = data.geom_xpos, data.geom_xmat
        raster.transform_vertices(
            t.vertices, t.normals, t.geoms, *frames, self._lights(), b.world_points, b.world_normals, b.received
        )
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
        vertices = b.world_points, b.world_normals, b.received, t.faces
        lens = position, rotation, self._headlight(), step, samples, near
        raster.project(*vertices, *lens, b.camera, b.light, b.edges, b.spans)
        raster.rasterize(b.edges, b.spans, step, near, b.depth, b.owner)
        count = shading.list_fragments(b.owner, step, b.owners, b.rays, b.pixels)
        fragments = count, b.owners, b.rays, b.pixels, step, b.edges, t.faces
        appearance = b.light, t.paint, t.tint, t.texture, t.density, t.textures.texels, t.textures.levels
        shading.shade(*fragments, *appearance, b.sums)
        shading.to_bytes(b.sums, t.background, image)

    def _headlight(self) -> tuple[float, float]:
        """Returns the light that the camera casts, and the ambient light."""
        model, headlight = self.model, self.model.vis.headlight
        ambient = model.light_ambient[model.light_active.astype(bool)].sum(axis=0).mean()
        if not headlight.active:
            return 0.0, float(ambient)
        return float(np.mean(headlight.diffuse)), float(ambient + np.mean(headlight.ambient))

    def _lights(self) -> Float[np.ndarray, "L 10"]:
        """Returns the active lights as `raster.transform_vertices` reads them."""
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
