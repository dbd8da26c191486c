"""Random shifts of pictures (Yarats et al., 2021), the augmentation of behaviour cloning and of the update."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, Shaped


def shift_pictures(pictures: Shaped[Array, "B h w C"], offset: Int[Array, "B 2"], pad: int) -> Shaped[Array, "B h w C"]:
    """Pictures moved by whole pixels; what comes into view repeats the edge. Bytes stay bytes.

    Args:
      pictures: of any type.
      offset: rows, then columns, each 0 to 2 `pad`; `pad` leaves a picture where it is.
      pad: largest shift, pixels.
    """
    height, width = pictures.shape[1:3]
    # A gather of rows and columns instead of a padded copy and a slice of it: clamped indices repeat the edge.
    rows = jnp.clip(offset[:, :1] + jnp.arange(height) - pad, 0, height - 1)
    columns = jnp.clip(offset[:, 1:] + jnp.arange(width) - pad, 0, width - 1)
    return jax.vmap(lambda picture, row, column: picture[row][:, column])(pictures, rows, columns)


def random_shift(key: PRNGKeyArray, pictures: Shaped[Array, "*B h w C"], pad: int = 4) -> Shaped[Array, "*B h w C"]:
    """Every picture shifted by its own number of pixels, up to `pad` in each direction."""
    if pad == 0:
        return pictures
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    offset = jax.random.randint(key, (len(flat), 2), 0, 2 * pad + 1)
    return shift_pictures(flat, offset, pad).reshape(pictures.shape)
