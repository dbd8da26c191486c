"""Triangles of boxes, planes, round shapes and simplified meshes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PATCH = 0.75  # metres; larger flat faces are split, since light is computed at vertices
_ROUND = 20  # slices around a cylinder or sphere


@dataclass(frozen=True)
class Shape:
    """Triangles in the frame of a geom.

    Attributes:
      vertices: corner points, metres.
      normals: unit, outwards.
      paint: color in 0..1, or texture coordinates (u, v, 0).
      faces: vertex indices, counter-clockwise from outside.
    """

    vertices: Float[np.ndarray, "V 3"]
    normals: Float[np.ndarray, "V 3"]
    paint: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]


def join(parts: list[Shape]) -> Shape:
    """Joins shapes of one frame."""
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    return Shape(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.normals for part in parts]),
        np.concatenate([part.paint for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
    )


def sheet(corner: np.ndarray, along: np.ndarray, across: np.ndarray) -> Shape:
    """Makes a flat rectangle with the normal `along` x `across`; its paint is (0..1 along, 0..1 across, 0).

    Args:
      corner: position of a corner, metres, `[3]`.
      along, across: vectors to the neighboring corners, `[3]`.
    """
    columns, rows = (max(1, int(np.ceil(np.linalg.norm(side) / PATCH))) for side in (along, across))
    s, t = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    s, t = s.reshape(-1, 1), t.reshape(-1, 1)
    normal = np.cross(along, across)
    index = np.arange((rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    return Shape(
        corner + s * along + t * across,
        np.tile(normal / max(np.linalg.norm(normal), 1e-12), (len(s), 1)),
        np.concatenate([s, t, np.zeros_like(s)], axis=1),
        np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]),
    )


def box(size: Float[np.ndarray, "3"]) -> Shape:
    """Makes a box of half sizes `size`, metres."""
    sides = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal, along, across = (np.roll(np.eye(3)[0], axis + k) * size for k in range(3))
            along = along * sign
            sides.append(sheet(sign * normal - along - across, 2 * along, 2 * across))
    return join(sides)


def plane(size: Float[np.ndarray, "3"], endless: float) -> Shape:
    """Makes a plane facing +z of half sizes `size[:2]`; where a size is 0, `endless` metres."""
    x, y = (side if side > 0 else endless for side in size[:2])
    return sheet(np.array([-x, -y, 0.0]), np.array([2 * x, 0, 0]), np.array([0, 2 * y, 0]))


def _revolve(profile: Float[np.ndarray, "n 2"], slopes: Float[np.ndarray, "n 2"]) -> Shape:
    """Makes a surface of revolution about z from rows of (radius, height), from the bottom up, and their normals."""
    angle = np.linspace(0, 2 * np.pi, _ROUND + 1)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def spin(rows: np.ndarray) -> np.ndarray:
        flat = rows[:, None, :1] * circle[None]
        return np.concatenate([flat, np.broadcast_to(rows[:, None, 1:], (*flat.shape[:2], 1))], -1)

    count = len(profile)
    index = np.arange(count * (_ROUND + 1)).reshape(count, _ROUND + 1)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    return Shape(
        spin(profile).reshape(-1, 3),
        spin(slopes).reshape(-1, 3),
        np.ones((index.size, 3)),
        np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]),
    )


def cylinder(radius: float, half: float) -> Shape:
    """Makes a closed cylinder along z of half length `half`, metres."""
    rings = [
        ((0.0, -half), (radius, -half), (0.0, -1.0)),
        ((radius, -half), (radius, half), (1.0, 0.0)),
        ((radius, half), (0.0, half), (0.0, 1.0)),
    ]
    return join([_revolve(np.array([low, high]), np.array([slope, slope])) for low, high, slope in rings])


def capsule(radius: float, half: float) -> Shape:
    """Makes a capsule along z: a cylinder of half length `half` between two half spheres, metres."""
    quarter = np.linspace(0, np.pi / 2, _ROUND // 4 + 1)
    angle = np.concatenate([-quarter[::-1], quarter])
    slopes = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ends = np.repeat([-half, half], len(quarter))
    return _revolve(radius * slopes + np.stack([0 * ends, ends], axis=1), slopes)


def ellipsoid(size: Float[np.ndarray, "3"]) -> Shape:
    """Makes an ellipsoid of half axes `size`, metres."""
    ball = capsule(1.0, 0.0)
    normals = ball.normals / size
    normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return Shape(ball.vertices * size, normals, ball.paint, ball.faces)


def areas(vertices: Float[np.ndarray, "V n"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, " F"]:
    """Returns the areas of triangles in three dimensions."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def simplify(shape: Shape, budget: int, min_cell: float) -> Shape:
    """Simplifies a mesh: merges vertices that share a cell of a grid, which grows until `budget` faces remain.

    Points are merged by cell; normals and paint by cell, side and connected patch, so that thin walls keep two sides,
    edges stay sharp and texture coordinates are never averaged across a seam.

    Args:
      shape: a mesh whose vertices are split where normals or paint jump.
      budget: maximum of faces.
      min_cell: width of the smallest cells, metres.
    """
    patch = _patches(shape)
    cell = max(min_cell, np.sqrt(areas(shape.vertices, shape.faces).sum() / budget))
    for _ in range(20):
        merged = _merge(shape, patch, cell)
        if len(merged.faces) <= budget:
            break
        cell *= max(1.05, np.sqrt(len(merged.faces) / budget))
    return merged


def _patches(shape: Shape) -> Int[np.ndarray, " V"]:
    """Labels vertices; those joined by faces without a jump of paint between them have the same label."""
    point = _row_ids(np.rint(1e6 * np.concatenate([shape.vertices, shape.paint], axis=1)).astype(np.int64))
    corners, count = point[shape.faces], point.max() + 1
    pairs = np.concatenate([corners[:, :2], corners[:, 1:]]).T
    _, label = connected_components(coo_array((np.ones(pairs.shape[1]), pairs), shape=(count, count)), False)
    return label[point]


def _row_ids(rows: Int[np.ndarray, "V n"]) -> Int[np.ndarray, " V"]:
    """Returns an id for each row, equal where rows are equal; sorting one mixed key is ten times faster than rows."""
    odd = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
    weights = np.resize(odd, rows.shape[1]) * np.arange(1, 2 * rows.shape[1], 2, dtype=np.uint64)
    key = (rows.astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64)
    return np.unique(key, return_inverse=True)[1]


def _merge(shape: Shape, patch: Int[np.ndarray, " V"], cell: float) -> Shape:
    grid = np.floor((shape.vertices - shape.vertices.min(axis=0)) / cell).astype(np.int64)
    cell_id = np.unique(grid @ np.array([1, 1 << 20, 1 << 40]), return_inverse=True)[1]
    axis = np.abs(shape.normals).argmax(axis=1)
    side = 2 * axis + (shape.normals[np.arange(len(axis)), axis] > 0)
    keys, vertex = np.unique((patch * 6 + side) * (cell_id.max() + 1) + cell_id, return_inverse=True)
    corners = cell_id[shape.faces]
    whole = (corners != np.roll(corners, 1, axis=1)).all(axis=1)
    faces = vertex[shape.faces[whole]]
    first = faces.argmin(axis=1)[:, None]
    faces = np.unique(np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1), axis=0)
    # Vertices are weighted by the area around them: many tiny faces must not outweigh a large one.
    area = np.bincount(shape.faces.ravel(), areas(shape.vertices, shape.faces).repeat(3), len(cell_id)) + 1e-12
    normals = _means(shape.normals, area, vertex)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    points = _means(shape.vertices, np.ones(len(cell_id)), cell_id)[keys % (cell_id.max() + 1)]
    used, faces = np.unique(faces, return_inverse=True)
    paint = _means(shape.paint, area, vertex)
    return Shape(points[used], normals[used], paint[used], faces.reshape(-1, 3))


def _means(values: np.ndarray, weights: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Returns the weighted mean of each group's rows."""
    total = np.bincount(group, weights)[:, None]
    return np.stack([np.bincount(group, weights * column) for column in values.T], axis=1) / total
