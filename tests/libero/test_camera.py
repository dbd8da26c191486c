"""Images compared with closed forms, with MuJoCo's own renderer and with the benchmark."""

import json
import os
import subprocess
import sys

import mujoco
import numpy as np
import pytest
from shared import shared_dir

from rlgen.core.errors import UserError
from rlgen.data.images import rotate_180
from rlgen.libero.rendering import opengl
from rlgen.libero.rendering.mesh import areas, box, capsule, cylinder, ellipsoid, simplify
from rlgen.libero.rendering.opengl import OpenGLRenderer, find_gl
from rlgen.libero.rendering.renderer import make_renderer
from rlgen.libero.rendering.software import SoftwareRenderer
from rlgen.libero.rendering.triangles import read_triangles

SIZE = 128
FOVY = 45.0
FOCAL = SIZE / 2 / np.tan(np.deg2rad(FOVY / 2))  # pixels


def build(
    inside: str, assets: str = "", head: str = "ambient='.2 .2 .2' diffuse='.8 .8 .8' specular='0 0 0'"
) -> mujoco.MjModel:
    """Returns a world with a camera at the origin that looks along +y, with z up."""
    return mujoco.MjModel.from_xml_string(f"""
      <mujoco><visual><headlight {head}/><map znear="0.01"/></visual><statistic extent="1"/>
        <default><geom group="1"/></default><asset>{assets}</asset>
        <worldbody><camera name="eye" fovy="{FOVY}" xyaxes="1 0 0 0 0 1"/>{inside}</worldbody></mujoco>""")


def render(model: mujoco.MjModel) -> np.ndarray:
    return SoftwareRenderer(model, cameras=["eye"], image_size=SIZE).render(model.qpos0)[0]


def covered(image: np.ndarray) -> np.ndarray:
    return image.max(axis=-1) > 0


def test_a_sphere_has_the_position_and_size_of_a_perspective_projection():
    x, y, z, radius = 0.3, 2.0, 0.25, 0.2
    mask = covered(render(build(f"<geom type='sphere' size='{radius}' pos='{x} {y} {z}'/>")))
    rows, columns = np.nonzero(mask)
    assert columns.mean() + 0.5 - SIZE / 2 == pytest.approx(FOCAL * x / y, abs=0.5)
    assert rows.mean() + 0.5 - SIZE / 2 == pytest.approx(FOCAL * z / y, abs=0.5)
    distance = np.sqrt(y**2 - radius**2)
    assert mask.sum() == pytest.approx(np.pi * (FOCAL * radius / distance) ** 2, rel=0.06)


def test_box_covers_exactly_its_pixels():
    half, front = 0.25, 1.5
    mask = covered(render(build(f"<geom type='box' size='{half} .1 {half}' pos='0 {front + 0.1} 0'/>")))
    edge = FOCAL * half / front
    centers = np.arange(SIZE) + 0.5 - SIZE / 2
    inside = np.abs(centers) < edge - 0.5
    outside = np.abs(centers) > edge + 0.5
    assert mask[np.ix_(inside, inside)].all()
    assert not mask[outside].any() and not mask[:, outside].any()


def test_nearer_hides_farther_whatever_the_order():
    near = "<geom type='box' size='.1 .1 .1' pos='0 1 0' rgba='1 0 0 1'/>"
    far = "<geom type='box' size='.5 .1 .5' pos='0 2 0' rgba='0 0 1 1'/>"
    one, other = render(build(near + far)), render(build(far + near))
    assert np.array_equal(one, other)
    middle = one[SIZE // 2, SIZE // 2]
    assert middle[0] > 200 and middle[2] == 0
    assert one[SIZE // 2, SIZE // 2 + 25, 2] > 150


def test_raw_row_0_is_the_bottom_and_images_of_datasets_are_rotated():
    image = render(build("<geom type='sphere' size='.05' pos='.3 1 .2'/>"))
    rows, columns = np.nonzero(covered(image))
    assert rows.mean() > SIZE / 2 and columns.mean() > SIZE / 2
    turned = rotate_180(image)
    assert np.array_equal(turned[0, 0], image[-1, -1]) and np.array_equal(turned[0, -1], image[-1, 0])
    assert np.array_equal(rotate_180(turned), image)
    assert np.array_equal(rotate_180(np.stack([image, turned]))[1], image)


def test_colors_are_those_of_geom_material_and_texture():
    wall = "<geom type='box' size='1 .1 1' pos='0 1.1 0' {}/>"
    assets = """<texture name="t" type="2d" builtin="flat" rgb1=".5 .25 1" width="8" height="8"/>
      <material name="plain" rgba=".2 .4 .6 1"/><material name="printed" texture="t" rgba="1 1 .5 1"/>"""
    cases = {
        "rgba='.2 .4 .8 1'": (0.2, 0.4, 0.8),
        "material='plain'": (0.2, 0.4, 0.6),
        "material='plain' rgba='1 0 0 1'": (1.0, 0.0, 0.0),
        "material='printed'": (0.5, 0.25, 0.5),
    }
    for attributes, expected in cases.items():
        middle = render(build(wall.format(attributes), assets))[SIZE // 2, SIZE // 2]
        assert middle / 255 == pytest.approx(expected, abs=0.006), attributes


def test_light_falls_off_with_the_angle_and_within_the_cone():
    lamp = "<light pos='0 1 2' dir='0 0 -1' cutoff='30' exponent='0' diffuse='.6 .6 .6' castshadow='false'/>"
    floor = "<geom type='plane' size='4 4 .1' pos='0 1 -.4' rgba='1 1 1 1'/>"
    model = build(floor + lamp, head="active='0'")
    image = render(model)
    below = np.nonzero(covered(image))
    assert 0 < len(below[0]) < SIZE * SIZE / 2
    row = int(SIZE / 2 - FOCAL * 0.4 / 1.0)
    assert image[row, SIZE // 2, 0] / 255 == pytest.approx(0.6, abs=0.04)


def test_floor_under_and_behind_the_camera_reaches_the_horizon_only():
    mask = covered(render(build("<geom type='plane' size='0 0 .1' pos='0 0 -.2' rgba='1 1 1 1'/>")))
    assert mask[: SIZE // 2 - 20].all()
    assert not mask[SIZE // 2 :].any()


def test_triangles_that_cross_the_near_plane_are_cut():
    # A wall beside the camera, from behind it to far ahead: it fills the right side up to where it ends.
    mask = covered(render(build("<geom type='box' size='.05 3 3' pos='.25 0 0'/>")))
    edge = SIZE / 2 + FOCAL * 0.2 / 3
    assert not mask[:, : int(edge) - 1].any()
    assert mask[:, int(edge) + 2 :].all()


def test_textures_are_mapped_as_in_mujoco():
    assets = """
      <texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 1 0" width="64" height="64"/>
      <material name="m" texture="t" texrepeat="2 2" texuniform="false"/>"""
    wall = "<geom type='plane' size='.5 .5 .1' pos='0 2 0' xyaxes='1 0 0 0 0 1' material='m'/>"
    model = build(wall, assets)
    image = render(model)
    texture = model.tex_data.reshape(64, 64, 3)
    for x in (-0.4, -0.1, 0.15, 0.35):
        for z in (-0.4, -0.15, 0.1, 0.35):
            u, v = 0.5 * 2 * x / 0.5 - 0.5, -0.5 * 2 * z / 0.5 - 0.5
            texel = texture[int(v % 1 * 64), int(u % 1 * 64)]
            row, column = int(SIZE / 2 + FOCAL * z / 2), int(SIZE / 2 + FOCAL * x / 2)
            assert image[row, column].argmax() == texel.argmax(), (x, z)


def test_hidden_geoms_and_sites_are_not_rendered():
    hidden = """<geom type='sphere' size='.2' pos='0 1 0' group='0'/>
      <geom type='sphere' size='.2' pos='0 1 0' group='3'/><site size='.3' pos='0 1 0'/>
      <geom type='sphere' size='.2' pos='0 1 0' rgba='1 1 1 0'/>"""
    mask = covered(render(build(hidden + "<geom type='sphere' size='.01' pos='.4 1 .3'/>")))
    assert not mask[SIZE // 2, SIZE // 2] and mask.any()
    with pytest.raises(ValueError, match="group 1"):
        render(build(hidden))


def test_an_unknown_camera_is_reported():
    with pytest.raises(ValueError, match=r"'agentview'.*eye"):
        SoftwareRenderer(build("<geom size='1'/>"))
    with pytest.raises(UserError, match="fast, benchmark or warp"):
        make_renderer("pretty", build("<geom size='1'/>"))


def test_equal_states_give_equal_bytes_whatever_was_rendered_before():
    model = build("<body pos='0 1 0'><freejoint/><geom type='capsule' size='.1 .2'/></body>")
    moved = model.qpos0 + np.array([0.2, 0.1, 0.1, 0, 0.5, 0, 0])
    one, other = (SoftwareRenderer(model, cameras=["eye"], image_size=64) for _ in range(2))
    first = one.render(model.qpos0)
    one.render(moved)
    assert np.array_equal(one.render(model.qpos0), first)
    assert np.array_equal(other.render(model.qpos0), first)
    assert not np.array_equal(one.render(moved), first)


def test_a_state_that_is_not_a_number_does_no_harm():
    model = build("<body><freejoint/><geom size='.1'/></body><geom size='.1' pos='0 1 0'/>")
    renderer = SoftwareRenderer(model, cameras=["eye"], image_size=32)
    assert renderer.render(np.full(model.nq, np.nan)).shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("shape", "volume"),
    [
        (box(np.array([0.1, 0.2, 1.0])), 8 * 0.02),
        (cylinder(0.2, 0.3), np.pi * 0.04 * 0.6),
        (capsule(0.2, 0.3), np.pi * 0.04 * 0.6 + 4 / 3 * np.pi * 0.008),
        (ellipsoid(np.array([1.0, 0.5, 0.2])), 4 / 3 * np.pi * 0.1),
    ],
)
def test_shapes_are_closed_and_face_outwards(shape, volume):
    a, b, c = (shape.vertices[shape.faces[:, i]] for i in range(3))
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6 == pytest.approx(volume, rel=0.06)
    flat, middle = np.cross(b - a, c - a), shape.normals[shape.faces].mean(axis=1)
    assert (np.einsum("ij,ij->i", flat, middle) >= -1e-9).all()


def test_simplified_meshes_keep_their_surface_and_two_sides():
    model = mujoco.MjModel.from_xml_string("""<mujoco><asset><mesh name="m" builtin="sphere" params="4"
      scale=".1 .1 .1"/></asset><worldbody><geom type="mesh" mesh="m" group="1"/></worldbody></mujoco>""")
    full, small = (read_triangles(model, budget=budget) for budget in (10**6, 900))
    assert len(small.faces) <= 300 < len(full.faces)
    assert np.abs(np.linalg.norm(small.vertices, axis=1) - 0.1).max() < 0.01
    assert areas(small.vertices, small.faces).sum() == pytest.approx(areas(full.vertices, full.faces).sum(), rel=0.06)
    assert np.einsum("ij,ij->i", small.vertices, small.normals).min() > 0.08
    sheets = box(np.array([0.1, 0.1, 0.0005]))
    thin = simplify(sheets, 4, 0.05)
    assert {tuple(np.round(normal)) for normal in thin.normals} >= {(0.0, 0.0, 1.0), (0.0, 0.0, -1.0)}


def test_finding_a_gl_library_survives_broken_ones(monkeypatch):
    def wanted(name: str) -> str:
        monkeypatch.setenv("MUJOCO_GL", name)
        find_gl.cache_clear()
        return find_gl()

    try:
        assert wanted("disabled") == "none"
        monkeypatch.setattr(opengl, "_TRIAL", "raise ImportError('no such library')")
        assert wanted("egl") == "none"
        monkeypatch.setattr(opengl, "_TRIAL", "import os; os.abort()")
        assert wanted("osmesa") == "none"
        monkeypatch.setattr(opengl, "_TRIAL", "import sys; print(sys.argv[1] == 'osmesa')")
        assert wanted("") == "osmesa"
        assert wanted("egl") == "none"
    finally:
        find_gl.cache_clear()
    with pytest.raises(UserError, match="libegl1"):
        OpenGLRenderer(build("<geom size='1'/>"), cameras=["eye"], gl="none")


_OFFICIAL = """
import json, sys, types
from pathlib import Path
assets, out, gl = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if gl == "none":  # robosuite imports EGL even where it does not render
    context = types.ModuleType("robosuite.renderers.context.egl_context")
    context.EGLGLContext = None
    sys.modules[context.__name__] = context
from rlgen.libero.tasks.suites import find_task, package_folder
from rlgen.libero.tasks.initial_states import read_initial_states
import mujoco, numpy as np
root = package_folder()
folders = dict(benchmark_root=root, bddl_files=root / "bddl_files", init_states=root / "init_files",
               datasets=out, assets=assets)
(out / "config.yaml").write_text("".join(f"{key}: {value}\\n" for key, value in folders.items()))
import libero.libero
libero.libero._assets_path_cache = str(assets)
from libero.libero.envs.env_wrapper import ControlEnv
task = find_task(sys.argv[4])
renders = gl != "none"
env = ControlEnv(bddl_file_name=str(task.bddl_file), has_offscreen_renderer=renders, use_camera_obs=renders)
env.reset()
state = read_initial_states(task.initial_states_file)[0]
seen = env.set_init_state(state)
mujoco.mj_saveModel(env.sim.model._model, str(out / "model.mjb"))
found = {"state": state}
for camera in ("agentview", "robot0_eye_in_hand") if renders else ():
    found["128_" + camera] = seen[camera + "_image"]
    found["256_" + camera] = env.sim.render(width=256, height=256, camera_name=camera)
np.savez(out / "seen.npz", **found)
"""
_SPATIAL = "libero_spatial/pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate"


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Model, first stored state and, with a GL library, images of the benchmark's own environment."""
    out, assets = tmp_path_factory.mktemp("official"), shared_dir("libero/assets")
    gl = find_gl()
    environment = os.environ | {
        "LIBERO_CONFIG_PATH": str(out),
        "MUJOCO_GL": "disable" if gl == "none" else gl,
    }
    command = [sys.executable, "-c", _OFFICIAL, str(assets), str(out), gl, _SPATIAL]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, json.dumps(result.stderr[-2000:])
    model = mujoco.MjModel.from_binary_path(str(out / "model.mjb"))
    return model, dict(np.load(out / "seen.npz"))


def _similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the correlation of two gray images of 224 pixels, averaged over cells of 8 pixels."""
    cells = (p.astype(float).mean(-1).reshape(28, 8, 28, 8).mean((1, 3)).ravel() for p in (one, other))
    return float(np.corrcoef(*cells)[0, 1])


def test_the_software_renderer_has_the_orientation_of_a_real_benchmark_image(official):
    model, recorded = official
    golden = np.load(shared_dir("golden/rlds/libero_spatial_observation.npz"))
    rendered = rotate_180(SoftwareRenderer(model, image_size=224).render(recorded["state"][1 : 1 + model.nq]))
    for image, name in zip(rendered, ("full_image", "wrist_image"), strict=True):
        scores = [
            _similarity(np.rot90(flipped, turn), golden[name])
            for flipped in (image, image[:, ::-1])
            for turn in range(4)
        ]
        assert scores[0] > 0.8, name
        assert scores[0] > max(scores[1:]) + 0.2, name


@pytest.mark.parametrize("size", [128, 256])
def test_the_opengl_renderer_gives_the_benchmarks_pixels(official, size):
    model, recorded = official
    if find_gl() == "none":
        with pytest.raises(UserError, match="fast renderer"):
            OpenGLRenderer(model, image_size=size)
        return
    with OpenGLRenderer(model, image_size=size) as renderer:
        rendered = renderer.render(recorded["state"][1 : 1 + model.nq])
    for image, camera in zip(rendered, ("agentview", "robot0_eye_in_hand"), strict=True):
        assert np.array_equal(image, recorded[f"{size}_{camera}"]), camera
    quick = SoftwareRenderer(model, image_size=size).render(recorded["state"][1 : 1 + model.nq])
    assert np.abs(quick.astype(float) - rendered).mean() < 18
    assert np.corrcoef(quick.ravel(), rendered.ravel())[0, 1] > 0.9
