"""Shading: colors of pixels from the triangles that `raster` found for each sample. Numba kernels, as there.

`list_fragments` lists the triangles that each pixel shows, `shade` computes their colors, `to_bytes` rounds.
"""

import math

import numpy as np

from rlgen.core.compiled import compiled


@compiled(error_model="numpy")
def list_fragments(owner, step, faces, rays, pixels):
    """Lists the triangles that each pixel's 2 x 2 samples show, each once.

    Args:
      owner, step: as in `raster.rasterize`.
      faces: output, `[4 P]` triangle of each fragment.
      rays: output, `[4 P, 3]` x and y of the center of its samples one metre ahead, and its fraction of the pixel.
      pixels: output, `[4 P]` its pixel.

    Returns:
      The number of fragments.
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


@compiled(error_model="numpy")
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
    """Computes the colors of fragments: paint or texture, times tint, times light.

    Args:
      count, owners, rays, pixels: from `list_fragments`; step, edges, faces: as in `raster.project`.
      light: `[V]` light received; paint: `[V, 3]` color in 0..1, or texture coordinates u, v.
      tint: `[F, 3]`; texture: `[F]` index or -1; density: `[F]` texels per metre.
      texels: uint8 `[N, 3]`; levels: `[textures, levels, 3]` first texel, width, height.
      sums: output, `[P, 4]` red, green, blue in 0..1 times coverage, and coverage in 0..1.
    """
    sums[:] = 0.0
    for n in range(count):
        f, x, y, fraction = owners[n], rays[n, 0], rays[n, 1], rays[n, 2]
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
        bright = fraction * min(b0 * light[i] + b1 * light[j] + b2 * light[k], 1.0)
        sums[pixels[n], 0] += red * tint[f, 0] * bright
        sums[pixels[n], 1] += green * tint[f, 1] * bright
        sums[pixels[n], 2] += blue * tint[f, 2] * bright
        sums[pixels[n], 3] += fraction


@compiled(error_model="numpy")
def to_bytes(sums, background, image):
    """Adds the background where nothing covers it, and rounds to bytes.

    Args:
      sums: `[P, 4]` from `shade`; background: `[3]` in 0..1.
      image: output, uint8 `[H, W, 3]` with H W = P.
    """
    width = image.shape[1]
    for n in range(len(sums)):
        for i in range(3):
            value = sums[n, i] + (1.0 - sums[n, 3]) * background[i]
            image[n // width, n % width, i] = np.uint8(min(max(value, 0.0), 1.0) * 255.0 + 0.5)
