"""Models by name: the published ones, their LoRA variants, and small ones for a CPU."""

from dataclasses import replace

from rlgen.core.errors import UserError
from rlgen.vla.model.config import CAMERAS, ExpertConfig, LoraConfig, VisionConfig, VlaConfig


def pi0() -> VlaConfig:
    """Returns the published size: SigLIP So400m/14, Gemma 2B, a 300M action expert."""
    return VlaConfig(
        vision=VisionConfig(width=1152, depth=27, mlp=4304, heads=16, patch=14),
        language=ExpertConfig(width=2048, mlp=16384),
        action=ExpertConfig(width=1024, mlp=4096),
        depth=18,
        heads=8,
        kv_heads=1,
        head_size=256,
        vocabulary=257_152,
        dtype="bfloat16",
    )


def pi05() -> VlaConfig:
    """Returns the published pi0.5: the flow time in adaptive norms, the state in the prompt."""
    return replace(pi0(), family="pi05", prompt_length=200, state_in_prompt=True)


def with_lora(config: VlaConfig, *, language: bool = True, action: bool = True) -> VlaConfig:
    """Returns `config` with openpi's adapters: rank 16 in the language expert, 32 in the action expert.

    Args:
      config: a model.
      language: whether its language expert gets adapters.
      action: whether its action expert does.
    """
    return replace(
        config,
        language=replace(config.language, lora=LoraConfig(16) if language else None),
        action=replace(config.action, lora=LoraConfig(32) if action else None),
    )


def without_lora(config: VlaConfig) -> VlaConfig:
    """Returns `config` without adapters, as after a merge."""
    return with_lora(config, language=False, action=False)


def with_cameras(config: VlaConfig, count: int | None) -> VlaConfig:
    """Returns `config` with the first `count` cameras of the published models; None leaves it as it is.

    LIBERO's robot has the first two. A model that also has the third sees it black and masked: no token attends to its
    tokens, they take no positions, and no gradient comes from them.
    """
    return config if count is None else replace(config, cameras=CAMERAS[:count])


def pi0_libero() -> VlaConfig:
    """Returns pi0 as it was fine-tuned on LIBERO."""
    return pi0()


def pi05_libero() -> VlaConfig:
    """Returns pi0.5 as it was fine-tuned on LIBERO: chunks of 10, and no state at all."""
    return replace(pi05(), horizon=10, state_in_prompt=False)


def small() -> VlaConfig:
    """Returns a model that two CPU cores train in minutes: two 128-pixel cameras, chunks of 16."""
    return VlaConfig(
        vision=VisionConfig(width=128, depth=1, mlp=384, heads=4, patch=32, stem="conv", stem_width=32),
        language=ExpertConfig(width=128, mlp=256),
        action=ExpertConfig(width=64, mlp=128),
        depth=2,
        heads=4,
        kv_heads=1,
        head_size=32,
        vocabulary=2048,
        cameras=CAMERAS[:2],
        image_size=128,
        action_size=8,
        horizon=16,
        prompt_length=16,
        state_limit=5.0,
        unroll=True,
    )


def tiny() -> VlaConfig:
    """Returns the smallest useful size of `small`, for tests and smoke runs."""
    return replace(
        small(),
        vision=VisionConfig(width=32, depth=1, mlp=64, heads=2, patch=32, stem="conv", stem_width=16),
        language=ExpertConfig(width=32, mlp=64),
        action=ExpertConfig(width=32, mlp=64),
        depth=1,
        heads=2,
        head_size=16,
        vocabulary=512,
    )


PRESETS = {
    "pi0": pi0,
    "pi05": pi05,
    "pi0_lora": lambda: with_lora(pi0()),
    "pi05_lora": lambda: with_lora(pi05()),
    "pi0_libero": pi0_libero,
    "pi05_libero": pi05_libero,
    "pi0_libero_lora": lambda: with_lora(pi0_libero()),
    "small": small,
    "tiny": tiny,
}
SMALL = ("small", "tiny")
"""The models for a CPU, which are trained from scratch."""


def preset(name: str) -> VlaConfig:
    """Returns the model of a name.

    Raises:
      UserError: there is none of that name.
    """
    if name not in PRESETS:
        raise UserError(f"unknown model {name!r}, expected one of {', '.join(PRESETS)}")
    return PRESETS[name]()
