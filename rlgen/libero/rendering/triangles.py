"""A MuJoCo model as a small list of colored triangles, built once and shared by software renderers."""

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float, Int

from rlgen.libero.rendering.mesh import Shape, areas, box, capsule, cylinder, ellipsoid, plane, simplify
from rlgen.libero.rendering.textures import Textures, read_textures

_GROUPS = (1, 2)  # the visual geoms, which the benchmark shows; group 0 is for collisions
_DEFAULT_RGBA = np.array([0.5, 0.5, 0.5, 1.0], np.float32)  # MuJoCo's default, for which the material's color is taken
_MIN_SIZE = 0.002  # metres; meshes of a smaller half size (screws) are left out
_MIN_CELL = 0.005  # metres; half a pixel of the agent view at 128 pixels, at the table
_MIN_ALPHA = 0.1  # more transparent geoms are left out; others are rendered opaque
_GEOM = mujoco.mjtGeom


@dataclass(frozen=True)
class Triangles:
    """Geometry of a software renderer: V vertices in the frames of their geoms, F faces.

    Attributes:
      vertices, normals: metres, in the frame of the geom.
      geoms: geom of each vertex.
      paint: color in 0..1, or texture coordinates (u, v, 0).
      faces: vertex indices, counter-clockwise from outside.
      tint: color that the paint or texture is multiplied by.
      texture: index into `textures`, or -1.
      density: texels per metre on the face, 0 without a texture.
      textures: all textures, made small.
      background: color where there is no geom.
    """

    vertices: Float[np.ndarray, "V 3"]
    normals: Float[np.ndarray, "V 3"]
    geoms: Int[np.ndarray, " V"]
    paint: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    tint: Float[np.ndarray, "F 3"]
    texture: Int[np.ndarray, " F"]
    density: Float[np.ndarray, " F"]
    textures: Textures
    background: Float[np.ndarray, "3"]


@dataclass(frozen=True)
class _Appearance:
    """Color and texture of a geom, from its material or its own."""

    rgba: Float[np.ndarray, "4"]
    texture: int
    repeat: Float[np.ndarray, "2"]
    uniform: bool


def read_triangles(model: mujoco.MjModel, *, budget: int = 1500) -> Triangles:
    """Builds the triangles of all visible geoms.

    Args:
      model: a model whose visible geoms are in group 1 or 2, as the benchmark's are.
      budget: maximum of triangles of a textured mesh; one of a single color keeps a third of that.
    """
    textures = read_textures(model)
    parts = []
    for geom in visible_geoms(model):
        appearance = _appearance(model, geom)
        shape, texture = _shape(model, geom, appearance, textures, budget)
        if shape is not None and len(shape.faces):
            parts.append(_part(geom, appearance, shape, texture, textures))
    return _gather(parts, textures, _background(model, textures))


def visible_geoms(model: mujoco.MjModel) -> list[int]:
    """Returns the geoms that are rendered: of the visual groups, and not all but transparent."""
    grouped = np.flatnonzero(np.isin(model.geom_group, _GROUPS)).tolist()
    return [geom for geom in grouped if _appearance(model, geom).rgba[3] >= _MIN_ALPHA]


def _appearance(model: mujoco.MjModel, geom: int) -> _Appearance:
    own, material = model.geom_rgba[geom], model.geom_matid[geom]
    if material < 0:
        return _Appearance(own, -1, np.ones(2), False)
    rgba = model.mat_rgba[material] if (own == _DEFAULT_RGBA).all() else own
    texture = int(model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
    uniform = bool(model.mat_texuniform[material])
    return _Appearance(rgba, texture, model.mat_texrepeat[material], uniform)


def _shape(
    model: mujoco.MjModel, geom: int, appearance: _Appearance, textures: Textures, budget: int
) -> tuple[Shape | None, int]:
    """Returns the geom's triangles, and the texture that they sample per pixel or -1."""
    kind, size = _GEOM(model.geom_type[geom]), model.geom_size[geom].copy()
    if kind == _GEOM.mjGEOM_MESH:
        return _mesh(model, geom, appearance, textures, budget)
    if kind in (_GEOM.mjGEOM_PLANE, _GEOM.mjGEOM_BOX):
        shape = plane(size, 2 * model.stat.extent) if kind == _GEOM.mjGEOM_PLANE else box(size)
        if appearance.texture < 0:
            return _painted(shape, np.ones(3)), -1
        flat = model.tex_type[appearance.texture] == mujoco.mjtTexture.mjTEXTURE_2D
        return (_mapped(shape, size, appearance) if flat else shape), appearance.texture
    if kind == _GEOM.mjGEOM_CYLINDER:
        shape = cylinder(size[0], size[1])
    elif kind == _GEOM.mjGEOM_CAPSULE:
        shape = capsule(size[0], size[1])
    elif kind == _GEOM.mjGEOM_SPHERE:
        shape = ellipsoid(size[:1].repeat(3))
    elif kind == _GEOM.mjGEOM_ELLIPSOID:
        shape = ellipsoid(size)
    else:
        return None, -1
    return _painted(shape, textures.mean(appearance.texture) if appearance.texture >= 0 else np.ones(3)), -1


def _painted(shape: Shape, color: np.ndarray) -> Shape:
    return Shape(shape.vertices, shape.normals, np.tile(color, (len(shape.vertices), 1)), shape.faces)


def _mapped(shape: Shape, size: np.ndarray, appearance: _Appearance) -> Shape:
    """Adds texture coordinates as MuJoCo does: along x and y of the geom, repeated `repeat` times."""
    scale = np.where(size[:2] > 0, size[:2], 1.0)
    per_metre = appearance.repeat if appearance.uniform else appearance.repeat / scale
    uv = 0.5 * shape.vertices[:, :2] * per_metre * [1, -1] - 0.5
    return Shape(shape.vertices, shape.normals, np.pad(uv, ((0, 0), (0, 1))), shape.faces)


def _mesh(
    model: mujoco.MjModel, geom: int, appearance: _Appearance, textures: Textures, budget: int
) -> tuple[Shape | None, int]:
    mesh, half = model.geom_dataid[geom], model.geom_aabb[geom, 3:].max()
    if half < _MIN_SIZE:
        return None, -1
    textured = appearance.texture >= 0 and model.mesh_texcoordnum[mesh] > 0
    shape = _corners(model, mesh, textured)
    if textured and len(shape.faces) <= budget:
        return shape, appearance.texture
    if textured:
        return simplify(shape, budget, _MIN_CELL), appearance.texture
    color = textures.mean(appearance.texture) if appearance.texture >= 0 else np.ones(3)
    return simplify(_painted(shape, color), budget // 3, _MIN_CELL), -1


def _corners(model: mujoco.MjModel, mesh: int, textured: bool) -> Shape:
    """Returns a mesh with one vertex for each combination of point, normal and texture coordinate."""
    rows = slice(model.mesh_faceadr[mesh], model.mesh_faceadr[mesh] + model.mesh_facenum[mesh])
    point, normal = model.mesh_face[rows].ravel(), model.mesh_facenormal[rows].ravel()
    mapped = model.mesh_facetexcoord[rows].ravel() if textured else np.zeros_like(point)
    key = (point.astype(np.int64) << 42) + (normal.astype(np.int64) << 21) + mapped
    _, first, faces = np.unique(key, return_index=True, return_inverse=True)
    points = model.mesh_vert[model.mesh_vertadr[mesh] + point[first]].astype(float)
    normals = model.mesh_normal[model.mesh_normaladr[mesh] + normal[first]].astype(float)
    paint = np.zeros_like(points)
    if textured:
        paint[:, :2] = model.mesh_texcoord[model.mesh_texcoordadr[mesh] + mapped[first]]
    return Shape(points, normals, paint, faces.reshape(-1, 3))


def _part(geom: int, appearance: _Appearance, shape: Shape, texture: int, textures: Textures) -> dict[str, np.ndarray]:
    density = np.zeros(len(shape.faces))
    if texture >= 0:
        _, width, height = textures.levels[texture, 0]
        texels = areas(shape.paint * [width, height, 1], shape.faces)
        density = np.sqrt(texels / np.maximum(areas(shape.vertices, shape.faces), 1e-12))
    count = len(shape.faces)
    return {
        "vertices": shape.vertices,
        "normals": shape.normals,
        "geoms": np.full(len(shape.vertices), geom),
        "paint": shape.paint,
        "faces": shape.faces,
        "tint": np.tile(appearance.rgba[:3].astype(float), (count, 1)),
        "texture": np.full(count, texture),
        "density": density,
    }


def _gather(parts: list[dict[str, np.ndarray]], textures: Textures, background: np.ndarray) -> Triangles:
    if not parts:
        raise ValueError("the model shows no geoms in groups 1 and 2: put visible geoms in group 1")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    starts = np.cumsum([0] + [len(part["vertices"]) for part in parts[:-1]])
    joined["faces"] = np.concatenate([part["faces"] + start for part, start in zip(parts, starts, strict=True)])
    return Triangles(**joined, textures=textures, background=background)


def _background(model: mujoco.MjModel, textures: Textures) -> Float[np.ndarray, "3"]:
    """Returns the mean color of the sky, or black without one, as MuJoCo clears to."""
    for texture in range(model.ntex):
        if model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            return textures.mean(texture).astype(float)
    return np.zeros(3)
