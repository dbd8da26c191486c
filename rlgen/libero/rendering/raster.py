"""Rasterization: which triangle each sample of an image shows. Numba kernels, one for each step.

`transform_vertices` moves vertices into the world and lights them; `project` turns triangles into edge functions of
the image; `rasterize` finds the nearest triangle of every sample; `shading` computes colors from these. The kernels do
not hold the interpreter's lock and always give the same bits.

A triangle is tested in homogeneous form: with its corners in camera coordinates as the columns of M, the ray d through
a sample meets the triangle where M^-1 d has no negative entry, and the sum of the entries is the inverse depth. That
needs no clipping at the near plane (Olano & Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997).

The kernels are written without inner functions on arrays: an array that is passed to a helper, or sliced in a loop,
costs Numba a pair of atomic operations each time, which doubled the time per image.
"""

import math

from rlgen.core.compiled import compiled

_WIDE = 16  # samples; a wider row of a triangle is narrowed to its span first


@compiled(error_model="numpy")
def transform_vertices(vertices, normals, geoms, positions, rotations, lights, world_points, world_normals, received):
    """Moves vertices into the world and lights them with the scene's own lights (Lambert, spot cones).

    Args:
      vertices, normals: `[V, 3]` in the frame of their geom, metres.
      geoms: `[V]` geom of each vertex.
      positions, rotations: `[G, 3]`, `[G, 9]` frames of the geoms.
      lights: `[L, 10]` position, direction, diffuse, cosine of the cutoff, exponent, 1 if directional.
      world_points, world_normals, received: output, `[V, 3]` positions and `[V, 3]` normals in the world, `[V]` light.
    """
    for v in range(len(vertices)):
        g = geoms[v]
        for i in range(3):
            a, b, c = rotations[g, 3 * i], rotations[g, 3 * i + 1], rotations[g, 3 * i + 2]
            moved = a * vertices[v, 0] + b * vertices[v, 1] + c * vertices[v, 2]
            world_points[v, i] = moved + positions[g, i]
            world_normals[v, i] = a * normals[v, 0] + b * normals[v, 1] + c * normals[v, 2]
        total = 0.0
        for n in range(len(lights)):
            ax, ay, az = lights[n, 3], lights[n, 4], lights[n, 5]
            x, y, z = -ax, -ay, -az
            if lights[n, 9] == 0.0:
                x, y, z = (
                    lights[n, 0] - world_points[v, 0],
                    lights[n, 1] - world_points[v, 1],
                    lights[n, 2] - world_points[v, 2],
                )
            length = math.sqrt(x * x + y * y + z * z) + 1e-9
            lambert = (world_normals[v, 0] * x + world_normals[v, 1] * y + world_normals[v, 2] * z) / length
            cosine = -(ax * x + ay * y + az * z) / length
            if lambert > 0.0 and lights[n, 9] > 0.0:
                total += lights[n, 6] * lambert
            elif lambert > 0.0 and cosine >= lights[n, 7]:
                total += lights[n, 6] * lambert * cosine ** lights[n, 8]
        received[v] = total


@compiled(error_model="numpy")
def _bounds(a, az, b, bz, c, cz, near):
    """Returns the range of one coordinate, one metre ahead, over the part of a triangle beyond `near`."""
    low, high = 1e30, -1e30
    for p, pz, q, qz in ((a, az, b, bz), (b, bz, c, cz), (c, cz, a, az)):
        if pz >= near:
            low, high = min(low, p / pz), max(high, p / pz)
        if (pz >= near) != (qz >= near):
            cut = (p + (near - pz) / (qz - pz) * (q - p)) / near
            low, high = min(low, cut), max(high, cut)
    return low, high


@compiled(error_model="numpy")
def _sample_range(low, high, step, size):
    """Returns the samples whose centers lie between two coordinates: the first, and one past the last."""
    first = math.ceil(min(max(low / step + 0.5 * size - 0.5, 0.0), size))
    last = math.floor(min(max(high / step + 0.5 * size - 0.5, -1.0), size - 1.0)) + 1
    return first, last


@compiled(error_model="numpy")
def project(
    world_points,
    world_normals,
    received,
    faces,
    position,
    rotation,
    headlight,
    step,
    size,
    near,
    camera,
    light,
    edges,
    spans,
):
    """Computes edge functions of triangles in the image; those facing away get an empty span.

    Args:
      world_points, world_normals, received: from `transform_vertices`.
      faces: `[F, 3]` indices of vertices, counter-clockwise from outside.
      position, rotation: `[3]`, `[9]` camera frame: x right, y up, looking along -z.
      headlight: light that the camera casts straight ahead, and ambient light.
      step: width of a sample one metre ahead, metres; size: samples across the image.
      near: nearest depth that is rendered, metres.
      camera: scratch, `[V, 3]` positions right of, above and ahead of the camera.
      light: output, `[V]` all light received.
      edges: output, `[F, 9]` barycentric coordinates over depth as functions of (x, y, 1).
      spans: output, `[F, 4]` first row, one past the last, and the same for columns.
    """
    for v in range(len(world_points)):
        x, y, z = world_points[v, 0] - position[0], world_points[v, 1] - position[1], world_points[v, 2] - position[2]
        camera[v, 0] = rotation[0] * x + rotation[3] * y + rotation[6] * z
        camera[v, 1] = rotation[1] * x + rotation[4] * y + rotation[7] * z
        camera[v, 2] = -(rotation[2] * x + rotation[5] * y + rotation[8] * z)
        frontal = (
            rotation[2] * world_normals[v, 0] + rotation[5] * world_normals[v, 1] + rotation[8] * world_normals[v, 2]
        )
        light[v] = received[v] + headlight[0] * max(frontal, 0.0) + headlight[1]
    for f in range(len(faces)):
        spans[f, 0], spans[f, 1] = 0, 0
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = camera[i, 0], camera[i, 1], camera[i, 2]
        bx, by, bz = camera[j, 0], camera[j, 1], camera[j, 2]
        cx, cy, cz = camera[k, 0], camera[k, 1], camera[k, 2]
        if max(az, bz, cz) < near:
            continue
        px, py, pz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
        volume = ax * px + ay * py + az * pz
        if volume < 1e-14:
            continue
        low, high = _bounds(ay, az, by, bz, cy, cz, near)
        first_row, last_row = _sample_range(low, high, step, size)
        low, high = _bounds(ax, az, bx, bz, cx, cz, near)
        first_column, last_column = _sample_range(low, high, step, size)
        if first_row >= last_row or first_column >= last_column:
            continue
        spans[f, 0], spans[f, 1], spans[f, 2], spans[f, 3] = first_row, last_row, first_column, last_column
        scale = 1.0 / volume
        edges[f, 0], edges[f, 1], edges[f, 2] = px * scale, py * scale, pz * scale
        edges[f, 3] = (cy * az - cz * ay) * scale
        edges[f, 4] = (cz * ax - cx * az) * scale
        edges[f, 5] = (cx * ay - cy * ax) * scale
        edges[f, 6] = (ay * bz - az * by) * scale
        edges[f, 7] = (az * bx - ax * bz) * scale
        edges[f, 8] = (ax * by - ay * bx) * scale


@compiled(error_model="numpy")
def _narrow_span(a, k, first, last, step, half):
    """Narrows a span to where a * x + k >= 0, with a sample to spare on either side."""
    if a > 1e-12:
        first = max(first, math.floor(min(max(-k / a / step + half, 0.0), 2.0 * half)) - 1)
    elif a < -1e-12:
        last = min(last, math.floor(min(max(-k / a / step + half, 0.0), 2.0 * half)) + 2)
    return first, last


@compiled(error_model="numpy")
def rasterize(edges, spans, step, near, depth, owner):
    """Finds the nearest triangle of every sample.

    Args:
      edges, spans, step, near: as in `project`.
      depth, owner: output, `[S, S]` inverse depth, and triangle (-1: none); row 0 is the bottom.
    """
    half, ceiling = 0.5 * len(depth), 1.0 / near
    depth[:] = 0.0
    owner[:] = -1
    for f in range(len(spans)):
        a0, b0, c0 = edges[f, 0], edges[f, 1], edges[f, 2]
        a1, b1, c1 = edges[f, 3], edges[f, 4], edges[f, 5]
        a2, b2, c2 = edges[f, 6], edges[f, 7], edges[f, 8]
        for r in range(spans[f, 0], spans[f, 1]):
            y = (r + 0.5 - half) * step
            k0, k1, k2 = b0 * y + c0, b1 * y + c1, b2 * y + c2
            first, last = spans[f, 2], spans[f, 3]
            if last - first > _WIDE:
                first, last = _narrow_span(a0, k0, first, last, step, half)
                first, last = _narrow_span(a1, k1, first, last, step, half)
                first, last = _narrow_span(a2, k2, first, last, step, half)
            for c in range(first, last):
                x = (c + 0.5 - half) * step
                e0, e1, e2 = a0 * x + k0, a1 * x + k1, a2 * x + k2
                inverse = e0 + e1 + e2
                if min(e0, e1, e2) >= 0.0 and depth[r, c] < inverse <= ceiling:
                    depth[r, c] = inverse
                    owner[r, c] = f
