"""Names that stored configurations had in older versions."""

from typing import Any

# Version 0.1.0 stored runs with format 1.
_RENAMED_SINCE_1 = {
    "threads": "workers",
    "policy.sees": "policy.observation",
    "policy.eyes.size": "policy.image_encoder.image_size",
    "policy.eyes.backbone": "policy.image_encoder.backbone",
    "policy.eyes.widths": "policy.image_encoder.widths",
    "policy.eyes.blocks": "policy.image_encoder.blocks",
    "policy.eyes.points": "policy.image_encoder.keypoints",
    "policy.eyes.token": "policy.image_encoder.token_size",
    "policy.eyes.depth": "policy.image_encoder.depth",
    "policy.eyes.heads": "policy.image_encoder.heads",
    "policy.eyes.embedding": "policy.image_encoder.embedding_size",
    "policy.eyes.shift": "policy.image_encoder.random_shift",
    "policy.critic_physics": "policy.critic.privileged",
    "policy.critic_widths": "policy.critic.widths",
    "policy.precision": "policy.compute_dtype",
    "policy.widths": "policy.mlp_widths",
    "policy.mults": "policy.dim_mults",
    "policy.prediction": "policy.diffusion.prediction",
    "policy.train_steps": "policy.diffusion.train_timesteps",
    "policy.sampler": "policy.diffusion.sampler",
    "policy.steps": "policy.diffusion.denoising_steps",
    "policy.finetuned": "policy.diffusion.num_finetuned_steps",
    "policy.eta_train": "policy.diffusion.eta_train",
    "policy.eta_act": "policy.diffusion.eta_act",
    "policy.act_sampler": "policy.diffusion.act_sampler",
    "policy.sigma_min_sample": "policy.diffusion.sigma_min_sample",
    "policy.sigma_min_logprob": "policy.diffusion.sigma_min_logprob",
    "policy.sigma": "policy.gaussian.std",
    "policy.sigma_range": "policy.gaussian.std_range",
    "bc.steps": "bc.optimizer_steps",
    "ppo.actor_rate": "ppo.actor_learning_rate",
    "ppo.critic_rate": "ppo.critic_learning_rate",
    "ppo.executed": "ppo.action_steps",
    "ppo.shift": "ppo.random_shift",
    "ppo.largest_part": "ppo.microbatch",
    "collect.attempts": "collect.max_trials",
    "export.size": "export.image_size",
    "export.view": "export.renderer",
    "vla.size": "vla.model",
    "vla.steps": "vla.optimizer_steps",
}
_VALUES_SINCE_1 = {("policy.observation", "pictures"): "images"}


def upgrade(value: dict[str, Any], format: int) -> dict[str, Any]:
    """Returns a stored configuration under the names of this version.

    Args:
      value: the configuration as JSON, which is not changed.
      format: the `format` of the run that it is stored with; 2 is this version's.
    """
    # Runs that do not say so were trained, and evaluated, with the fixtures where they stand in the scene bundle.
    value = {"fixtures": "fixed", **value, "evaluate": {"fixtures": "fixed", **value.get("evaluate", {})}}
    if format >= 2:
        return _without_zeros(value)
    flat = {_RENAMED_SINCE_1.get(path, path): entry for path, entry in _flatten(value).items()}
    return _nest({path: _VALUES_SINCE_1.get((path, _hashable(entry)), entry) for path, entry in flat.items()})


def _without_zeros(value: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration without settings that are gone, where they had no effect; others are refused later."""
    ppo = value.get("ppo")
    if not isinstance(ppo, dict) or ppo.get("jerk_cost") != 0:
        return value
    return {**value, "ppo": {name: entry for name, entry in ppo.items() if name != "jerk_cost"}}


def upgrade_assets(record: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of a run's object assets under the names of this version."""
    return {**record, "kind": "placeholder" if record["kind"] == "stand-in" else record["kind"]}  # codespell:ignore


def _hashable(entry: Any) -> Any:
    return tuple(entry) if isinstance(entry, list) else entry


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, entry in value.items():
        if isinstance(entry, dict):
            flat |= _flatten(entry, f"{prefix}{name}.")
        else:
            flat[prefix + name] = entry
    return flat


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, entry in flat.items():
        *parents, name = path.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        section[name] = entry
    return nested


def renamed_options() -> dict[str, str]:
    """Returns the present name of every option of the command line that a renamed setting had."""

    def option(path: str) -> str:
        return f"--{path.replace('_', '-')}"

    return {option(old): option(new) for old, new in _RENAMED_SINCE_1.items()}
