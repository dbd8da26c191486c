"""Small vectors, matrices and quaternions (w, x, y, z) in JAX, along leading axes of any number.

Sums of a few products are written out as such: accelerators would compute small matrix products in TF32, and XLA fuses
what is written out with its surroundings, but neither matrix products nor reductions.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def dot(first: Float[Array, "*#B n"], second: Float[Array, "*#B n"]) -> Float[Array, "*B"]:
    """Returns the scalar products of vectors."""
    products = first * second
    return sum((products[..., k] for k in range(1, products.shape[-1])), start=products[..., 0])


def cross(first: Float[Array, "*#B 3"], second: Float[Array, "*#B 3"]) -> Float[Array, "*B 3"]:
    """Returns the vector products of vectors."""
    turned = [first[..., a] * second[..., b] - first[..., b] * second[..., a] for a, b in ((1, 2), (2, 0), (0, 1))]
    return jnp.stack(turned, axis=-1)


def product(first: Float[Array, "*#B i k"], second: Float[Array, "*#B k j"]) -> Float[Array, "*B i j"]:
    """Returns the products of small matrices."""
    terms = (first[..., :, k, None] * second[..., k, None, :] for k in range(second.shape[-2]))
    return sum(terms, start=jnp.zeros((), first.dtype))


def multiply(first: Float[Array, "*#B 4"], second: Float[Array, "*#B 4"]) -> Float[Array, "*B 4"]:
    """Returns the product of quaternions: the rotation `second`, then `first`."""
    w, x, y, z = jnp.split(first, 4, axis=-1)
    a, b, c, d = jnp.split(second, 4, axis=-1)
    parts = (
        w * a - x * b - y * c - z * d,
        w * b + x * a + y * d - z * c,
        w * c - x * d + y * a + z * b,
        w * d + x * c - y * b + z * a,
    )
    return jnp.concatenate(parts, axis=-1)


def rotate(quaternion: Float[Array, "*#B 4"], vector: Float[Array, "*#B 3"]) -> Float[Array, "*B 3"]:
    """Returns vectors rotated by unit quaternions."""
    w, axis = quaternion[..., :1], quaternion[..., 1:]
    twice = 2.0 * cross(axis, vector)
    return vector + w * twice + cross(axis, twice)


def to_matrix(quaternion: Float[Array, "*B 4"]) -> Float[Array, "*B 3 3"]:
    """Returns the rotation matrices of unit quaternions."""
    w, x, y, z = (quaternion[..., k] for k in range(4))
    rows = (
        (w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def axis_angle(quaternion: Float[Array, "*B 4"]) -> Float[Array, "*B 3"]:
    """Converts unit quaternions to axis times angle, radians in [0, 2 pi), as `envs.observations.axis_angle`.

    The angle is taken from sine and cosine: that of a small cosine's inverse is off by 3e-4 in single precision.
    """
    axis = quaternion[..., 1:]
    sine = jnp.sqrt(dot(axis, axis))[..., None]
    angle = 2.0 * jnp.arctan2(sine, quaternion[..., :1])
    return axis * jnp.where(sine < 1e-8, 0.0, angle / jnp.maximum(sine, 1e-8))
