"""Pictures of several cameras and the robot's own state as one vector, the condition of a trunk."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from rlgen.nets.resnet import ResNet
from rlgen.nets.spatial import SpatialEmbedding, SpatialSoftmax
from rlgen.nets.vit import Vit

Backbone = Literal["resnet", "vit"]


class PictureEncoder(nn.Module):
    """One backbone for all cameras, one head for each; the robot's state is appended to what they say.

    Attributes:
      backbone: `resnet`, or `vit`.
      widths, blocks, points: of the residual network, and the features whose places are read from it.
      token, depth, heads, embedding: of the vision transformer, and numbers in each camera's embedding.
      dtype: of activations; parameters and the result are float32.
    """

    backbone: Backbone = "resnet"
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: int = 1
    points: int = 32
    token: int = 128
    depth: int = 1
    heads: int = 4
    embedding: int = 128
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, pictures: Shaped[Array, "B V h w 3"], robot: Float[Array, "B P"]) -> Float[Array, "B C"]:
        """Features of each camera, then the robot's state; pictures in [0, 255]."""
        batch, cameras = pictures.shape[:2]
        seen = self._backbone()(pictures.reshape(batch * cameras, *pictures.shape[2:]))
        seen = seen.reshape(batch, cameras, *seen.shape[1:])
        features = [self._head(camera, seen[:, camera], robot) for camera in range(cameras)]
        return jnp.concatenate([*features, robot], axis=-1).astype(jnp.float32)

    def _backbone(self) -> nn.Module:
        if self.backbone == "vit":
            return Vit(self.token, self.depth, self.heads, self.dtype, name="backbone")
        return ResNet(self.widths, self.blocks, dtype=self.dtype, name="backbone")

    def _head(self, camera: int, seen: Array, robot: Float[Array, "B P"]) -> Float[Array, "B F"]:
        if self.backbone == "vit":
            return SpatialEmbedding(self.embedding, self.dtype, name=f"camera_{camera}")(seen, robot)
        return SpatialSoftmax(self.points, self.dtype, name=f"camera_{camera}")(seen)
