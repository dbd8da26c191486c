"""Which parameter belongs to what, by its name, and which of them a fine-tuning changes."""

from jaxtyping import PyTree

from rlgen.vla.config import Trainable, VlaConfig
from rlgen.vla.tree_diff import flat_names, nested


def is_lora(name: str) -> bool:
    """A factor of an adapter."""
    return "lora" in name.rsplit("/", 1)[-1]


def is_language_model(name: str) -> bool:
    """Gemma, either expert."""
    return name.startswith("PaliGemma/llm/")


def is_action_expert(name: str) -> bool:
    """Gemma's second expert."""
    return is_language_model(name) and any(part.endswith("_1") for part in name.split("/"))


def is_vision(name: str) -> bool:
    """The picture encoder."""
    return name.startswith("PaliGemma/img/")


def is_trained(config: VlaConfig, name: str, trainable: Trainable, *, freeze_vision: bool = False) -> bool:
    """Whether a fine-tuning changes a parameter.

    Args:
      config: the model.
      name: of the parameter.
      trainable: `all`; `lora`, openpi's rule: of each expert that has adapters only those, and all else (so
        also the picture encoder); `expert`: the action expert and the layers around it.
      freeze_vision: leave the picture encoder as it is.
    """
    if freeze_vision and is_vision(name):
        return False
    if trainable == "expert":
        return is_action_expert(name) or not name.startswith("PaliGemma/")
    if trainable == "all" or is_lora(name) or not is_language_model(name):
        return True
    return (config.action if is_action_expert(name) else config.language).lora is None


def split(params: PyTree, trained: set[str]) -> tuple[PyTree, PyTree]:
    """The parameters that `trained` names, and the others."""
    flat = flat_names(params)
    inside = {name: leaf for name, leaf in flat.items() if name in trained}
    outside = {name: leaf for name, leaf in flat.items() if name not in trained}
    return nested(inside), nested(outside)


def join(first: PyTree, second: PyTree) -> PyTree:
    """The inverse of `split`."""
    return nested(flat_names(first) | flat_names(second))
