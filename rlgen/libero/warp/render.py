"""The renderer `warp`: a ray tracer that draws the images of many worlds at once, on a GPU or on Warp's CPU device.

`RayTracer` is for programs whose states are on the device already, `WarpRenderer` for states of the CPU's physics.
The images are those of a ray tracer with simple lights: close to the benchmark's, and not the same pixels.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, Float, UInt8

from rlgen.core.types import FixturePoses
from rlgen.libero.rendering.software import CAMERAS
from rlgen.libero.rendering.textures import is_srgb, to_linear
from rlgen.libero.rendering.triangles import visible_geoms
from rlgen.libero.scenes.scene import Scene
from rlgen.libero.warp.device import graph_mode, load_warp
from rlgen.libero.warp.frames import Frames, make_view, place
from rlgen.libero.warp.kinematics import Tree, make_tree, with_fixtures

# Worlds of the largest batch: 64 MB of packed pixels for two cameras of 128 pixels.
LARGEST_BATCH = 512
_DRAWN, _HIDDEN = 1, 5  # groups of geoms


class RayTracer:
    """A ray tracer for a fixed number of worlds of one scene; `draw` is a pure function for compiled programs.

        tracer = RayTracer(scene, worlds=1024)
        images = jax.jit(tracer.draw)(qpos)  # [1024, 2, 128, 128, 3]

    Its buffers on the device are written by every call: calls must not overlap.
    """

    def __init__(
        self,
        scene: Scene,
        worlds: int,
        *,
        cameras: Sequence[str] = CAMERAS,
        image_size: int = 128,
        samples: int = 1,
    ):
        """Puts the visual model on the device.

        Args:
          scene: the task's scene; its fixtures stand where they stand in it.
          worlds: number of worlds N.
          cameras: names, in the order of the images.
          image_size: width and height, pixels.
          samples: rays of a pixel along each axis: their square is what an image costs.

        Raises:
          UserError: MuJoCo Warp is not installed, or the scene cannot be drawn by it.
        """
        libraries = load_warp()
        model = scene.visual_model
        self.tree, self.worlds, self.image_size = make_tree(scene), worlds, image_size
        self._view, self._cameras = make_view(model, tuple(cameras)), len(cameras)
        with _prepared(model):
            self._trace = _make_trace(libraries, model, worlds, tuple(cameras), image_size, samples)

    def draw(self, qpos: Float[Array, "N nq"], tree: Tree | None = None) -> UInt8[Array, "N cameras h w 3"]:
        """Returns the image of every camera in every world, in the benchmark's raw orientation.

        Args:
          qpos: joint positions.
          tree: the scene's tree for each world, stacked, where fixtures stand elsewhere; by default one for all.
        """
        mapped = None if tree is None else 0
        tree = self.tree if tree is None else tree
        frames = jax.vmap(place, in_axes=(mapped, None, 0))(tree, self._view, qpos.astype(jnp.float32))
        packed = self._trace(frames).reshape(self.worlds, self._cameras, self.image_size, self.image_size)
        channels = [(packed >> shift) & 0xFF for shift in (16, 8, 0)]
        # Warp's first row is the top of the image.
        return jnp.stack(channels, axis=-1).astype(jnp.uint8)[:, :, ::-1]


@contextmanager
def _prepared(model: mujoco.MjModel) -> Iterator[None]:
    """Chooses what a model draws by groups and makes its textures linear in light, for a while: it is large to copy.

    OpenGL decodes textures of sRGB, the ray tracer takes their numbers as they are.
    """
    groups, encoded = model.geom_group.copy(), []
    try:
        drawn = np.isin(np.arange(model.ngeom), visible_geoms(model))
        model.geom_group[:] = np.where(drawn, _DRAWN, _HIDDEN)
        for texture in filter(partial(is_srgb, model), range(model.ntex)):
            channels, start = int(model.tex_nchannel[texture]), int(model.tex_adr[texture])
            size = int(model.tex_height[texture]) * int(model.tex_width[texture]) * channels
            texels = model.tex_data[start : start + size].reshape(-1, channels)
            encoded.append((texels, texels.copy()))
            texels[:, :3] = to_linear(texels[:, :3])
        yield
    finally:
        model.geom_group[:] = groups
        for texels, before in encoded:
            texels[:] = before


def _make_trace(libraries, model, worlds: int, cameras: tuple[str, ...], image_size: int, samples: int):
    """Returns the function from frames of all worlds to packed pixels, with its buffers."""
    warp, mujoco_warp = libraries.warp, libraries.mujoco_warp
    device = warp.device_from_jax(jax.devices()[0])
    with warp.ScopedDevice(device):
        device_model = mujoco_warp.put_model(model)
        data = mujoco_warp.make_data(model, nworld=worlds, naconmax=8 * worlds, njmax=8)
        context = mujoco_warp.create_render_context(
            mjm=model,
            nworld=worlds,
            cam_res=(image_size, image_size),
            render_rgb=True,
            render_depth=False,
            render_seg=False,
            cam_active=list(cameras),
            enabled_geom_groups=[_DRAWN],
            samples_per_pixel=samples,
        )
    shape = tuple(context.rgb_data.shape)

    def trace(
        geom_xpos: warp.array2d[warp.vec3],
        geom_xmat: warp.array2d[warp.mat33],
        cam_xpos: warp.array2d[warp.vec3],
        cam_xmat: warp.array2d[warp.mat33],
        light_xpos: warp.array2d[warp.vec3],
        light_xdir: warp.array2d[warp.vec3],
        pixels: warp.array2d[warp.uint32],
    ):
        data.geom_xpos, data.geom_xmat = geom_xpos, geom_xmat
        data.cam_xpos, data.cam_xmat = cam_xpos, cam_xmat
        data.light_xpos, data.light_xdir = light_xpos, light_xdir
        context.rgb_data = pixels
        mujoco_warp.refit_bvh(device_model, data, context)
        mujoco_warp.render(device_model, data, context)

    call = warp.jax_callable(
        trace,
        num_outputs=1,
        graph_mode=graph_mode(warp, device),
        output_dims={"pixels": shape},
        vmap_method=None,
        has_side_effect=True,
    )

    def run(frames: Frames) -> Array:
        geoms, cameras = (frames.geom_xpos, frames.geom_xmat), (frames.cam_xpos, frames.cam_xmat)
        [pixels] = call(*geoms, *cameras, frames.light_xpos, frames.light_xdir)
        return pixels

    return run


class WarpRenderer:
    """A renderer of any number of states of one scene, from arrays on the CPU; for any number of threads.

    Batches grow with what is asked for, by powers of two up to `LARGEST_BATCH`, each with buffers and a compiled
    program of its own; the last states of a batch are repeated to fill it.
    """

    def __init__(self, scene: Scene, *, cameras: Sequence[str] = CAMERAS, image_size: int = 128, samples: int = 1):
        """Prepares the renderer; arguments as of `RayTracer`.

        Raises:
          UserError: MuJoCo Warp is not installed.
        """
        load_warp()
        self._scene, self._options = scene, {"cameras": cameras, "image_size": image_size, "samples": samples}
        self._image_shape = (len(cameras), image_size, image_size, 3)
        self._size, self._draw = 0, None
        self._lock = threading.Lock()

    def render(
        self, qpos: Float[np.ndarray, "M nq"], fixtures: Sequence[FixturePoses | None]
    ) -> UInt8[np.ndarray, "M cameras h w 3"]:
        """Renders every state from every camera, in the benchmark's raw orientation.

        Args:
          qpos: joint positions.
          fixtures: where the fixtures stand in each state, None for the scene's own.
        """
        images = np.empty((len(qpos), *self._image_shape), np.uint8)
        with self._lock:
            for start in range(0, len(qpos), LARGEST_BATCH):
                rows = slice(start, start + LARGEST_BATCH)
                images[rows] = self._render_batch(qpos[rows], fixtures[rows])
        return images

    def close(self) -> None:
        """Lets go of the buffers."""
        self._size, self._draw = 0, None

    def _render_batch(self, qpos: np.ndarray, fixtures: Sequence[FixturePoses | None]) -> np.ndarray:
        self._grow(len(qpos))
        filled = np.arange(self._size).clip(max=len(qpos) - 1)
        poses = self._poses([fixtures[row] for row in filled])
        images = self._draw(jnp.asarray(qpos[filled], jnp.float32), poses)
        return np.asarray(images[: len(qpos)])

    def _poses(self, fixtures: Sequence[FixturePoses | None]) -> Float[Array, "N F 7"] | None:
        """Returns where the fixtures stand in every world; None where it is the scene's own place in all."""
        scene = self._scene
        if all(one is None for one in fixtures):
            return None
        own = scene.fixtures
        if own is None:
            bodies = scene.fixture_bodies
            own = np.concatenate([scene.model.body_pos[bodies], scene.model.body_quat[bodies]], axis=1)
        for one in fixtures:
            scene.moved_bodies(one)  # refuses poses of another scene
        return jnp.asarray(np.stack([own if one is None else one for one in fixtures]), jnp.float32)

    def _grow(self, count: int) -> None:
        if count <= self._size:
            return
        self._size = 1 << (count - 1).bit_length()
        tracer = RayTracer(self._scene, self._size, **self._options)

        def draw(qpos: Array, fixtures: Array | None) -> Array:
            if fixtures is None:
                return tracer.draw(qpos)
            return tracer.draw(qpos, jax.vmap(with_fixtures, in_axes=(None, 0))(tracer.tree, fixtures))

        self._draw = jax.jit(draw)
