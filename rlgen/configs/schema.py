"""What a run does, as frozen dataclasses, and the presets. Imports nothing heavy: `--help` is quick.

The resolved configuration is stored with the run; a command line is a preset plus what it overrides.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlgen.core.errors import UserError


@dataclass(frozen=True)
class DemosConfig:
    """Demonstrations: scripted, or from a file."""

    episodes: int = 40
    """Successful episodes to record, or to take from the file at most."""
    clean: bool = False
    """Straight and steady instead of human-like."""
    file: str | None = None
    """HDF5 file of demonstrations of the task, people's or ours, in place of scripted ones."""

    def __post_init__(self) -> None:
        if self.file is not None:
            # A run may be gone on with from another folder.
            object.__setattr__(self, "file", str(Path(self.file).expanduser().absolute()))


@dataclass(frozen=True)
class ImageEncoderConfig:
    """The encoder of pictures; read only where the policy sees pictures."""

    size: int = 128
    """Height and width of the pictures of both cameras, pixels."""
    backbone: Literal["resnet", "vit"] = "resnet"
    """Residual network, or vision transformer, the paper's ablation."""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the residual network's stages."""
    blocks: int = 1
    """Residual blocks of each stage."""
    points: int = 32
    """Features of each camera whose places in the picture are read."""
    token: int = 128
    """Numbers in a token of the vision transformer."""
    depth: int = 1
    """Layers of the vision transformer."""
    heads: int = 4
    """Heads of its attention."""
    embedding: int = 128
    """Numbers in each camera's embedding behind it."""
    shift: int = 4
    """Largest random shift in behaviour cloning, pixels."""


@dataclass(frozen=True)
class PolicyConfig:
    """The policy and its critic."""

    algorithm: Literal["diffusion", "gaussian"] = "diffusion"
    """What PPO trains: a denoising chain, or the baseline's single Gaussian on the same network."""
    sees: Literal["state", "pictures"] = "state"
    """Proprioception and object poses, or pictures of both cameras and proprioception."""
    eyes: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    critic_physics: bool = False
    """The critic of a policy that sees pictures reads the physics state in place of their code."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of activations; parameters, densities and losses stay float32."""
    network: Literal["unet", "mlp"] = "unet"
    """1-D U-Net over the chunk, or a perceptron, the paper's ablation."""
    widths: tuple[int, ...] = (384, 384, 384)
    """Hidden widths of the perceptron."""
    film_deep: bool = False
    """Three-layer FiLM encoders in the U-Net."""
    prediction: Literal["eps", "x0", "v"] = "eps"
    """What the network says: the noise, the clean chunk, or the velocity between them."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """DDIM of `steps` steps, or DDPM, which walks all of `train_steps`."""
    act_sampler: Literal["dpm"] | None = None
    """DPM-Solver++ in evaluation and collection in place of the trained chain."""
    finetuned: int | None = None
    """Last steps of the chain that PPO trains; the cloned network walks those before. None for all."""
    sigma: float = 0.1
    """Standard deviation that the Gaussian policy starts with, in units of normalised actions."""
    sigma_range: tuple[float, float] = (0.01, 0.2)
    """Where that standard deviation may go."""
    horizon: int = 8
    """H, actions in a chunk; all are executed unless `ppo.executed` is set."""
    dim: int = 32
    """Channels of the U-Net's finest level."""
    mults: tuple[int, ...] = (1, 2)
    """Channels of each level as multiples of `dim`."""
    train_steps: int = 100
    """Length of the noise schedule."""
    steps: int = 5
    """K, denoising steps of the DDIM chain in rollouts, updates and evaluation."""
    eta_train: float = 1.0
    """DDIM's eta in rollouts and in the likelihood."""
    eta_act: float = 1.0
    """DDIM's eta in evaluation and collection, which add no noise: 0, or `eta_train` for the means of that chain."""
    sigma_min_sample: float = 0.05
    """Floor of the exploration noise of a denoising step, in units of normalised actions."""
    sigma_min_logprob: float = 0.05
    """Floor of the standard deviation in the likelihood."""
    critic_widths: tuple[int, ...] = (256, 256, 256)
    """Hidden widths of the critic."""


@dataclass(frozen=True)
class BCConfig:
    """Behaviour cloning."""

    episodes: int = 8
    """Demonstrations to clone, the longest quarter left out; PPO does the rest."""
    steps: int = 2000
    """Optimiser steps; the learning rate ends there."""
    batch: int = 128
    """Chunks a step."""
    learning_rate: float = 1e-3
    """Peak of the cosine."""
    learning_rate_end: float = 1e-5
    """End of the cosine."""
    warmup: int = 100
    """Steps of warm-up."""
    weight_decay: float = 1e-6
    """Of AdamW."""
    ema_decay: float = 0.995
    """Share of the average that is kept at a step."""
    max_grad_norm: float | None = 1.0
    """Gradients longer than this are shortened to it; None leaves them."""
    action_floor: float | None = 0.05
    """Smallest half range of an action in the normaliser; None leaves actions as they are."""
    stop_success: float | None = None
    """Cloning ends where the policy succeeds this often on training placements; None goes on to the last step."""
    check_every: int = 500
    """Steps between two such checks."""
    check_episodes: int = 50
    """Episodes of a check."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.steps:
            raise UserError(f"{self.warmup} warm-up steps of {self.steps}: expected fewer than all")
        if self.batch < 1:
            raise UserError(f"a batch of {self.batch}: expected 1 or more")
        if self.episodes < 1:
            raise UserError(f"{self.episodes} demonstrations to clone: expected 1 or more")
        if self.stop_success is not None and not 0 < self.stop_success <= 1:
            raise UserError(f"bc.stop-success {self.stop_success}: expected a share above 0, 1 at most")
        if self.check_every < 1 or self.check_episodes < 1:
            raise UserError("bc needs at least one step between checks and one episode in each")


@dataclass(frozen=True)
class PPOConfig:
    """PPO over the denoising chain."""

    iterations: int = 26
    """Rounds of collection and update."""
    environments: int = 40
    """Parallel environments."""
    chunks: int = 35
    """Action chunks an environment plays in an iteration; every iteration begins with new episodes."""
    epochs: int = 5
    """Passes over an iteration's data."""
    batch: int = 1750
    """(environment step, denoising step) pairs in a minibatch."""
    actor_rate: float = 1e-4
    """Peak learning rate of the policy."""
    critic_rate: float = 1e-3
    """Peak learning rate of the critic."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning-rate schedule over the run; constant is the paper's ablation."""
    critic_warmup: int = 1
    """First iterations, in which the critic learns alone."""
    gamma: float = 0.95
    """Discount a chunk."""
    gae_lambda: float = 0.95
    """Trace of generalised advantage estimation."""
    gamma_denoise: float = 0.99
    """Discount along the denoising chain, from the clean end."""
    clip: float = 0.015
    """Width of the clip at the last denoising step."""
    clip_base: float = 0.0015
    """Width of the clip at the first denoising step."""
    clip_rate: float = 3.0
    """How steeply the width grows along the chain."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    weight_decay: float = 0.0
    """Of AdamW, policy and critic."""
    target_kl: float | None = 1.0
    """An update stops for this iteration above this approximate KL divergence; None never stops."""
    value_clip: float | None = None
    """How far a value may move in an update before it stops counting; None for any."""
    bc_weight: float = 0.0
    """Weight of the loss towards the cloned policy; 0 for none."""
    entropy_weight: float = 0.0
    """Weight of a Gaussian policy's entropy."""
    executed: int | None = None
    """Leading actions of a chunk that are executed and count; None for all."""
    shift: int = 4
    """Largest random shift of pictures, pixels."""
    largest_part: int | None = None
    """Pairs whose gradient is taken at a time; the parts of a minibatch are averaged. None for all."""
    evaluate_every: int = 13
    """Iterations between two evaluations of the deterministic policy on training placements."""
    evaluate_episodes: int = 25
    """Episodes of such an evaluation."""
    evaluate_split: Literal["train", "heldout"] = "train"
    """`heldout` evaluates on the benchmark's stored initial states instead, in exact physics."""
    target: float | None = None
    """Training ends where an evaluation reaches this success rate; None goes on to the last iteration."""
    target_low: float = 0.0
    """And where the lower end of its 95 % interval reaches this."""

    def __post_init__(self) -> None:
        if self.target is not None and not 0 < self.target <= 1:
            raise UserError(f"ppo.target {self.target}: expected a share above 0, 1 at most")
        if self.executed is not None and self.executed < 1:
            raise UserError(f"ppo.executed {self.executed}: expected 1 or more")
        pairs = self.environments * self.chunks
        if self.iterations < 1 or pairs < 1 or self.batch < 1:
            raise UserError("ppo needs at least one iteration, environment, chunk and pair a batch")


@dataclass(frozen=True)
class CollectConfig:
    """Successes of the finished expert."""

    episodes: int = 50
    """Successful episodes to keep."""
    attempts: int = 200
    """Episodes after which collection gives up."""


@dataclass(frozen=True)
class ExportConfig:
    """The RLDS dataset."""

    size: int = 128
    """Height and width of the pictures."""
    view: Literal["fast", "benchmark"] = "fast"
    """`fast` needs no GL library; `benchmark` draws the official pixels and needs EGL or OSMesa."""
    shards: int = 4
    """Files of the dataset."""


@dataclass(frozen=True)
class VlaConfig:
    """The flow VLA."""

    size: Literal["tiny", "small"] = "small"
    """Size of the model."""
    steps: int = 600
    """Optimiser steps."""
    batch: int = 32
    """Frames a step."""
    checkpoint_every: int = 150
    """Optimiser steps between two checkpoints."""


@dataclass(frozen=True)
class EvaluateConfig:
    """The final evaluation, on the benchmark's stored initial states."""

    episodes: int = 50
    """Episodes of each actor; the stored states in order."""
    vla_episodes: int = 50
    """Episodes of the VLA."""


@dataclass(frozen=True)
class Config:
    """One run: one task, from demonstrations to the report."""

    task: str = "libero_object/pick_up_the_butter_and_place_it_in_the_basket"
    """`<suite>/<name>`, `<suite>/<index>`, a name or an instruction."""
    seed: int = 0
    """Root of all randomness."""
    threads: int = 2
    """Threads that step environments and draw pictures."""
    wandb: str | None = None
    """Project of Weights & Biases that PPO's metrics go to as well; needs the extra `wandb`."""
    demos: DemosConfig = field(default_factory=DemosConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    bc: BCConfig = field(default_factory=BCConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    vla: VlaConfig = field(default_factory=VlaConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise UserError(f"threads {self.threads}: expected 1 or more")
        if self.ppo.executed is not None and self.ppo.executed > self.policy.horizon:
            raise UserError(
                f"ppo.executed {self.ppo.executed} of a chunk of {self.policy.horizon}: expected no more than it has"
            )


def to_json(config: Config) -> dict[str, Any]:
    """The configuration as JSON."""
    return dataclasses.asdict(config)


def from_json(value: dict[str, Any]) -> Config:
    """The configuration that `to_json` wrote.

    Raises:
      UserError: a key or value that this version does not know.
    """
    return _build(Config, value, "config")


def _build(kind: type, value: dict[str, Any], name: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise UserError(f"{name} has unknown keys {unknown}; it was written by another version")
    built = {}
    for key, entry in value.items():
        default = fields[key].default_factory
        if isinstance(default, type) and dataclasses.is_dataclass(default):
            built[key] = _build(default, entry, f"{name}.{key}")
        else:
            built[key] = tuple(entry) if isinstance(entry, list) else entry
    return kind(**built)
