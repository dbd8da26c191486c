"""Triangles to pixels on the CPU: five small numba kernels, one per step of a picture.

`place` moves and lights the vertices; `project` turns triangles into edge functions of the picture;
`cover` finds the nearest triangle of every sample; `gather` lists what each pixel shows; `shade` colours it.
They hold no lock on the interpreter and always give the same bits.

A triangle is tested in homogeneous form: with its corners in camera coordinates as the columns of M, the
ray d through a sample meets it where M^-1 d has no negative entry, and the entries' sum is the inverse
depth. That needs no clipping at the near plane (Olano & Greer, "Triangle scan conversion using 2D
homogeneous coordinates", 1997).

The kernels are written flat, and helpers take numbers only: an array passed to a helper or sliced in a loop
costs numba a pair of atomic operations each time, which doubled the time of a picture.
"""

import math

import numpy as np
from numba import njit

_WIDE = 16  # samples; above this width a row's span is worked out before it is walked


@njit(nogil=True, cache=True, error_model="numpy")
def place(vertices, normals, geoms, positions, rotations, lights, world, facing, shade):
    """Moves vertices into the world and lights them with the scene's own lights (Lambert, spot cones).

    Args:
      vertices, normals: `[V, 3]` in the frame of their geom, metres.
      geoms: `[V]` geom of each vertex.
      positions, rotations: `[G, 3]`, `[G, 9]` geom frames.
      lights: `[L, 10]` position, direction, diffuse, cosine of the cutoff, exponent, 1 if directional.
      world, facing, shade: out, `[V, 3]` points, `[V, 3]` normals, `[V]` light received.
    """
    for v in range(len(vertices)):
        g = geoms[v]
        for i in range(3):
            a, b, c = rotations[g, 3 * i], rotations[g, 3 * i + 1], rotations[g, 3 * i + 2]
            moved = a * vertices[v, 0] + b * vertices[v, 1] + c * vertices[v, 2]
            world[v, i] = moved + positions[g, i]
            facing[v, i] = a * normals[v, 0] + b * normals[v, 1] + c * normals[v, 2]
        total = 0.0
        for n in range(len(lights)):
            ax, ay, az = lights[n, 3], lights[n, 4], lights[n, 5]
            x, y, z = -ax, -ay, -az
            if lights[n, 9] == 0.0:
                x, y, z = lights[n, 0] - world[v, 0], lights[n, 1] - world[v, 1], lights[n, 2] - world[v, 2]
            length = math.sqrt(x * x + y * y + z * z) + 1e-9
            lambert = (facing[v, 0] * x + facing[v, 1] * y + facing[v, 2] * z) / length
            cosine = -(ax * x + ay * y + az * z) / length
            if lambert > 0.0 and lights[n, 9] > 0.0:
                total += lights[n, 6] * lambert
            elif lambert > 0.0 and cosine >= lights[n, 7]:
                total += lights[n, 6] * lambert * cosine ** lights[n, 8]
        shade[v] = total


@njit(nogil=True, cache=True, error_model="numpy")
def _bounds(a, az, b, bz, c, cz, near):
    """Least and greatest of one coordinate, one metre ahead, over a triangle's part beyond `near`."""
    low, high = 1e30, -1e30
    for p, pz, q, qz in ((a, az, b, bz), (b, bz, c, cz), (c, cz, a, az)):
        if pz >= near:
            low, high = min(low, p / pz), max(high, p / pz)
        if (pz >= near) != (qz >= near):
            cut = (p + (near - pz) / (qz - pz) * (q - p)) / near
            low, high = min(low, cut), max(high, cut)
    return low, high


@njit(nogil=True, cache=True, error_model="numpy")
def _samples(low, high, step, size):
    """First and last-but-one sample of a row whose centre lies between two coordinates."""
    first = math.ceil(min(max(low / step + 0.5 * size - 0.5, 0.0), size))
    last = math.floor(min(max(high / step + 0.5 * size - 0.5, -1.0), size - 1.0)) + 1
    return first, last


@njit(nogil=True, cache=True, error_model="numpy")
def project(
    world, facing, shade, faces, position, rotation, head, step, size, near, camera, light, edges, spans
):
    """Turns triangles into functions of the picture; those seen from behind get an empty span.

    Args:
      world, facing, shade: from `place`.
      faces: `[F, 3]` indices of vertices, counter-clockwise from outside.
      position, rotation: `[3]`, `[9]` camera frame: x right, y up, looking along -z.
      head: light that the camera casts straight ahead, and light that is everywhere.
      step: width of a sample one metre ahead, metres; size: samples across the picture.
      near: nearest depth drawn, metres.
      camera: scratch, `[V, 3]` points right of, above and ahead of the camera.
      light: out, `[V]` all light received.
      edges: out, `[F, 9]` barycentric coordinates over depth as functions of (x, y, 1).
      spans: out, `[F, 4]` first and last row and column, each last one excluded.
    """
    for v in range(len(world)):
        x, y, z = world[v, 0] - position[0], world[v, 1] - position[1], world[v, 2] - position[2]
        camera[v, 0] = rotation[0] * x + rotation[3] * y + rotation[6] * z
        camera[v, 1] = rotation[1] * x + rotation[4] * y + rotation[7] * z
        camera[v, 2] = -(rotation[2] * x + rotation[5] * y + rotation[8] * z)
        towards = rotation[2] * facing[v, 0] + rotation[5] * facing[v, 1] + rotation[8] * facing[v, 2]
        light[v] = shade[v] + head[0] * max(towards, 0.0) + head[1]
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
        first_row, last_row = _samples(low, high, step, size)
        low, high = _bounds(ax, az, bx, bz, cx, cz, near)
        first_column, last_column = _samples(low, high, step, size)
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


@njit(nogil=True, cache=True, error_model="numpy")
def _inside(a, k, first, last, step, half):
    """Narrows a span to where a * x + k >= 0, with a sample to spare on either side."""
    if a > 1e-12:
        first = max(first, math.floor(min(max(-k / a / step + half, 0.0), 2.0 * half)) - 1)
    elif a < -1e-12:
        last = min(last, math.floor(min(max(-k / a / step + half, 0.0), 2.0 * half)) + 2)
    return first, last


@njit(nogil=True, cache=True, error_model="numpy")
def cover(edges, spans, step, near, depth, owner):
    """Finds the nearest triangle of every sample.

    Args:
      edges, spans, step, near: as in `project`.
      depth, owner: out, `[S, S]` inverse depth, and triangle (-1: none); row 0 is the bottom.
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
                first, last = _inside(a0, k0, first, last, step, half)
                first, last = _inside(a1, k1, first, last, step, half)
                first, last = _inside(a2, k2, first, last, step, half)
            for c in range(first, last):
                x = (c + 0.5 - half) * step
                e0, e1, e2 = a0 * x + k0, a1 * x + k1, a2 * x + k2
                inverse = e0 + e1 + e2
                if min(e0, e1, e2) >= 0.0 and depth[r, c] < inverse <= ceiling:
                    depth[r, c] = inverse
                    owner[r, c] = f


@njit(nogil=True, cache=True, error_model="numpy")
def gather(owner, step, faces, rays, pixels):
    """Lists the triangles that each pixel's 2 x 2 samples show, each once.

    Args:
      owner, step: as in `cover`.
      faces: out, `[4 P]` triangles; rays: out, `[4 P, 3]` x and y of the samples' centre one metre ahead,
        and the part of the pixel shown; pixels: out, `[4 P]` pixel of each.

    Returns:
      How many there are.
    """
    half, size, n = 0.5 * len(owner), len(owner) // 2, 0
    for r in range(size):
        for c in range(size):
            done = 0
            for s in range(4):
                if done >> s & 1:
                    continue
                f = owner[2 * r + (s >> 1), 2 * c + (s & 1)]
                count, x, y = 0, 0, 0
                for t in range(s, 4):
                    if owner[2 * r + (t >> 1), 2 * c + (t & 1)] == f:
                        done |= 1 << t
                        count += 1
                        x += t & 1
                        y += t >> 1
                if f >= 0:
                    faces[n], pixels[n] = f, r * size + c
                    rays[n, 0] = (2 * c + x / count + 0.5 - half) * step
                    rays[n, 1] = (2 * r + y / count + 0.5 - half) * step
                    rays[n, 2] = 0.25 * count
                    n += 1
    return n


@njit(nogil=True, cache=True, error_model="numpy")
def shade(
    count,
    owners,
    rays,
    pixels,
    step,
    edges,
    faces,
    light,
    paint,
    tint,
    texture,
    density,
    texels,
    levels,
    sums,
):
    """Colours what `gather` listed: paint or texture, times tint, times light.

    Args:
      count, owners, rays, pixels: from `gather`; step, edges, faces: as in `project`.
      light: `[V]` light received; paint: `[V, 3]` colour in 0..1, or texture coordinates u, v.
      tint: `[F, 3]`; texture: `[F]` index or -1; density: `[F]` texels a metre.
      texels: uint8 `[N, 3]`; levels: `[textures, levels, 3]` first texel, width, height.
      sums: out, `[P, 4]` red, green, blue in 0..1 times coverage, and coverage in 0..1.
    """
    sums[:] = 0.0
    for n in range(count):
        f, x, y, part = owners[n], rays[n, 0], rays[n, 1], rays[n, 2]
        b0 = max(edges[f, 0] * x + edges[f, 1] * y + edges[f, 2], 0.0)
        b1 = max(edges[f, 3] * x + edges[f, 4] * y + edges[f, 5], 0.0)
        b2 = max(edges[f, 6] * x + edges[f, 7] * y + edges[f, 8], 0.0)
        depth = 1.0 / max(b0 + b1 + b2, 1e-12)
        b0, b1, b2 = b0 * depth, b1 * depth, b2 * depth
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        red = b0 * paint[i, 0] + b1 * paint[j, 0] + b2 * paint[k, 0]
        green = b0 * paint[i, 1] + b1 * paint[j, 1] + b2 * paint[k, 1]
        blue = b0 * paint[i, 2] + b1 * paint[j, 2] + b2 * paint[k, 2]
        t = texture[f]
        if t >= 0:
            # The level whose texels are about as large as a pixel at this depth, repeated, bilinear.
            mantissa, exponent = math.frexp(density[f] * 2.0 * step * depth)
            level = max(0, min(exponent - (1 if mantissa < 0.75 else 0), levels.shape[1] - 1))
            start, width, height = levels[t, level, 0], levels[t, level, 1], levels[t, level, 2]
            u = (red - math.floor(red)) * width - 0.5
            v = (green - math.floor(green)) * height - 0.5
            left, low = math.floor(u), math.floor(v)
            u, v = u - left, v - low
            right, high = left + 1 if left + 1 < width else 0, low + 1 if low + 1 < height else 0
            left, low = left if left >= 0 else width - 1, low if low >= 0 else height - 1
            p, q = start + low * width + left, start + low * width + right
            r, s = start + high * width + left, start + high * width + right
            wq, wr, ws = u * (1.0 - v) / 255.0, (1.0 - u) * v / 255.0, u * v / 255.0
            wp = 1.0 / 255.0 - wq - wr - ws
            red = wp * texels[p, 0] + wq * texels[q, 0] + wr * texels[r, 0] + ws * texels[s, 0]
            green = wp * texels[p, 1] + wq * texels[q, 1] + wr * texels[r, 1] + ws * texels[s, 1]
            blue = wp * texels[p, 2] + wq * texels[q, 2] + wr * texels[r, 2] + ws * texels[s, 2]
        bright = part * min(b0 * light[i] + b1 * light[j] + b2 * light[k], 1.0)
        sums[pixels[n], 0] += red * tint[f, 0] * bright
        sums[pixels[n], 1] += green * tint[f, 1] * bright
        sums[pixels[n], 2] += blue * tint[f, 2] * bright
        sums[pixels[n], 3] += part


@njit(nogil=True, cache=True, error_model="numpy")
def finish(sums, background, picture):
    """Fills what nothing covers with `background` and rounds to bytes.

    Args:
      sums: `[P, 4]` from `shade`; background: `[3]` in 0..1.
      picture: out, uint8 `[H, W, 3]` with H W = P.
    """
    width = picture.shape[1]
    for n in range(len(sums)):
        for i in range(3):
            value = sums[n, i] + (1.0 - sums[n, 3]) * background[i]
            picture[n // width, n % width, i] = np.uint8(min(max(value, 0.0), 1.0) * 255.0 + 0.5)
