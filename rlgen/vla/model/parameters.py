"""Parameter trees by name: their parts, which of them are trained, and the difference between two."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from rlgen.vla.model.config import Trainable, VlaConfig

Shapes = Mapping[str, tuple[int, ...]]
SHOWN = 6


def flat_names(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves of a nested dict by their path, joined with `/`."""
    return {"/".join(map(str, path)): leaf for path, leaf in flatten_dict(tree).items()}


def nested(flat: Mapping[str, Any]) -> PyTree:
    """Inverts `flat_names`."""
    return unflatten_dict({tuple(name.split("/")): leaf for name, leaf in flat.items()})


def tree_shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the leaves by name."""
    return {name: tuple(leaf.shape) for name, leaf in flat_names(tree).items()}


def is_lora(name: str) -> bool:
    """Returns whether a parameter is a factor of an adapter."""
    return "lora" in name.rsplit("/", 1)[-1]


def is_language_model(name: str) -> bool:
    """Returns whether a parameter belongs to Gemma, either expert."""
    return name.startswith("PaliGemma/llm/")


def is_action_expert(name: str) -> bool:
    """Returns whether a parameter belongs to Gemma's second expert."""
    return is_language_model(name) and any(part.endswith("_1") for part in name.split("/"))


def is_vision(name: str) -> bool:
    """Returns whether a parameter belongs to the image encoder."""
    return name.startswith("PaliGemma/img/")


def is_trained(config: VlaConfig, name: str, trainable: Trainable, *, freeze_vision: bool = False) -> bool:
    """Returns whether a fine-tuning changes a parameter.

    Args:
      config: the model.
      name: of the parameter.
      trainable: `all`; `lora`, openpi's rule: of each expert that has adapters only those, and everything else (the
        image encoder included); `expert`: the action expert and the layers around it.
      freeze_vision: leave the image encoder as it is.
    """
    if freeze_vision and is_vision(name):
        return False
    if trainable == "expert":
        return is_action_expert(name) or not name.startswith("PaliGemma/")
    if trainable == "all" or is_lora(name) or not is_language_model(name):
        return True
    return (config.action if is_action_expert(name) else config.language).lora is None


def cast_products(config: VlaConfig, params: PyTree) -> PyTree:
    """Returns parameters with the weights of products in the type in which a model multiplies.

    It casts them where it uses them in any case. Before its loops over layers they are cast once and not in each pass,
    and their gradients are stored in that type until they are applied: the same numbers for less memory traffic.
    """
    if config.dtype == "float32":
        return params
    flat = flat_names(params)
    return nested({name: leaf.astype(config.dtype) if _is_product(name) else leaf for name, leaf in flat.items()})


def _is_product(name: str) -> bool:
    return name.startswith("PaliGemma/") and name.rsplit("/", 1)[-1] in ("kernel", "w", "gating_einsum", "linear")


def split(params: PyTree, trained: set[str]) -> tuple[PyTree, PyTree]:
    """Splits parameters into those that `trained` names, and the others."""
    flat = flat_names(params)
    inside = {name: leaf for name, leaf in flat.items() if name in trained}
    outside = {name: leaf for name, leaf in flat.items() if name not in trained}
    return nested(inside), nested(outside)


def join(first: PyTree, second: PyTree) -> PyTree:
    """Inverts `split`."""
    return nested(flat_names(first) | flat_names(second))


@dataclass(frozen=True)
class TreeDifference:
    """The difference between a tree that was found and the one that was expected.

    Attributes:
      missing: expected names that were not found.
      extra: found names that were not expected.
      shapes: name -> (found, expected) where these differ.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.shapes)

    def __str__(self) -> str:
        changed = [f"{name} is {list(a)}, expected {list(b)}" for name, (a, b) in self.shapes.items()]
        groups = (("missing", self.missing), ("not expected", self.extra), ("other shapes", tuple(changed)))
        return "; ".join(f"{len(names)} {group}: {_some(names)}" for group, names in groups if names)


def compare(found: Shapes, expected: Shapes) -> TreeDifference:
    """Compares names and shapes."""
    both = sorted(set(found) & set(expected))
    return TreeDifference(
        missing=tuple(sorted(set(expected) - set(found))),
        extra=tuple(sorted(set(found) - set(expected))),
        shapes={n: (tuple(found[n]), tuple(expected[n])) for n in both if tuple(found[n]) != tuple(expected[n])},
    )


def _some(names: tuple[str, ...]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
