"""Configurations of a run as frozen dataclasses: one class for each thing that can be chosen.

Policies, losses and stages read these classes themselves; nothing copies their fields. The command line makes an option
of every field, with the text below it as help. The resolved configuration is stored with the run (`to_json`) and read
again (`from_json`). Imports nothing heavy, so that `--help` answers at once.
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
    """HDF5 file of demonstrations of the task, human or recorded by rlgen, in place of scripted ones."""

    def __post_init__(self) -> None:
        if self.file is not None:
            # A run may be resumed from another folder.
            object.__setattr__(self, "file", str(Path(self.file).expanduser().absolute()))


@dataclass(frozen=True)
class ImageEncoderConfig:
    """The encoder of a policy that observes images."""

    image_size: int = 128
    """Height and width of the images of all cameras, pixels."""
    cameras: int = 2
    """Number of cameras: the front camera, then the one in the hand."""
    backbone: Literal["resnet", "vit"] = "resnet"
    """Residual network, or vision transformer, the paper's ablation."""
    widths: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the residual network's stages."""
    blocks: int = 1
    """Residual blocks of each stage."""
    keypoints: int = 32
    """Features of each camera whose positions in the image the residual network reads (spatial softmax)."""
    token_size: int = 128
    """Width of a token of the vision transformer."""
    depth: int = 1
    """Layers of the vision transformer."""
    heads: int = 4
    """Heads of its attention."""
    embedding_size: int = 128
    """Width of each camera's embedding behind the vision transformer."""
    robot_state_size: int = 8
    """Leading numbers of the observation vector that a policy with images reads: the robot's own state."""
    random_shift: int = 4
    """Largest random shift of images in behavior cloning, pixels."""

    def __post_init__(self) -> None:
        if self.backbone not in ("resnet", "vit"):
            raise UserError(f"image encoder backbone {self.backbone!r}: expected 'resnet' or 'vit'")


@dataclass(frozen=True)
class DiffusionConfig:
    """The denoising chain of a diffusion policy."""

    prediction: Literal["eps", "x0", "v"] = "eps"
    """What the network predicts: the noise, the clean chunk, or the velocity between them."""
    train_timesteps: int = 100
    """Length of the noise schedule that cloning trains on."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """DDIM of `denoising_steps` steps, or DDPM, which takes all `train_timesteps`."""
    denoising_steps: int = 5
    """Steps of the DDIM chain in rollouts, updates and evaluation."""
    num_finetuned_steps: int | None = None
    """Last steps of the chain that PPO trains, K; the cloned network takes those before. None for all."""
    eta_train: float = 1.0
    """DDIM's eta in rollouts and in the likelihood; 0 is deterministic, 1 has DDPM's variance."""
    eta_act: float = 1.0
    """DDIM's eta in evaluation and collection, which add no noise: 0, or `eta_train` for the means of that chain."""
    act_sampler: Literal["dpm"] | None = None
    """DPM-Solver++ in evaluation and collection in place of the trained chain."""
    sigma_min_sample: float = 0.05
    """Smallest standard deviation of a denoising step in rollouts, in units of normalized actions."""
    sigma_min_logprob: float = 0.05
    """Smallest standard deviation of a denoising step in the likelihood, likewise."""

    def __post_init__(self) -> None:
        if self.sampler not in ("ddim", "ddpm"):
            raise UserError(f"sampler {self.sampler!r}: expected 'ddim' or 'ddpm'")
        if self.act_sampler not in (None, "dpm"):
            raise UserError(f"act_sampler {self.act_sampler!r}: expected None or 'dpm'")
        if self.sigma_min_logprob <= 0:
            raise UserError(f"sigma_min_logprob {self.sigma_min_logprob}: expected more than 0")
        chosen, steps = self.num_finetuned_steps, self.num_steps
        if chosen is not None and not 1 <= chosen <= steps:
            raise UserError(f"num_finetuned_steps {chosen}: expected 1 to {steps}, the steps of the chain")

    @property
    def num_steps(self) -> int:
        """Steps of the whole chain in rollouts."""
        return self.train_timesteps if self.sampler == "ddpm" else self.denoising_steps


@dataclass(frozen=True)
class GaussianConfig:
    """The distribution of the Gaussian baseline, in units of normalized actions."""

    std: float = 0.1
    """Standard deviation at the start, or for good where it is fixed."""
    std_kind: Literal["learned", "state", "fixed"] = "learned"
    """One log variance for every dimension of an action, a second output of the MLP, or a constant."""
    std_range: tuple[float, float] = (0.01, 0.2)
    """Range of a standard deviation that is learned."""
    residual: bool = True
    """Residual blocks in the MLP."""
    bc_entropy_weight: float = 0.0
    """Weight of the entropy in behavior cloning."""
    clip_noise: float = 3.0
    """Draws are clamped to this many standard deviations."""

    def __post_init__(self) -> None:
        low, high = self.std_range
        if not 0 < low < high or self.std <= 0:
            raise UserError(f"std {self.std} in {self.std_range}: expected more than 0, and a range that rises")


@dataclass(frozen=True)
class CriticConfig:
    """The critic beside the policy."""

    widths: tuple[int, ...] = (256, 256, 256)
    """Hidden widths of a residual MLP."""
    activation: Literal["mish", "relu"] = "mish"
    """Its activation."""
    privileged: bool = False
    """Reads the physics state in place of the policy's image features; it is not needed when acting."""


@dataclass(frozen=True)
class PolicyConfig:
    """The policy and its critic."""

    algorithm: Literal["diffusion", "gaussian"] = "diffusion"
    """What PPO trains: a denoising chain, or the baseline's single Gaussian on the same network."""
    observation: Literal["state", "images"] = "state"
    """Proprioception and object poses, or images of both cameras and proprioception."""
    horizon: int = 8
    """H, actions in a chunk; all are executed unless `ppo.action_steps` is set."""
    network: Literal["unet", "mlp"] = "unet"
    """1-D U-Net over the chunk, or an MLP, the paper's ablation."""
    dim: int = 32
    """Channels of the U-Net's finest level."""
    dim_mults: tuple[int, ...] = (1, 2)
    """Channels of each level of the U-Net as multiples of `dim`."""
    film_deep: bool = False
    """Three-layer FiLM encoders in the U-Net."""
    mlp_widths: tuple[int, ...] = (384, 384, 384)
    """Hidden widths of the MLP."""
    time_embedding_size: int = 16
    """Width of the timestep's embedding."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations; parameters, log-probabilities and losses stay float32."""
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    gaussian: GaussianConfig = field(default_factory=GaussianConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)

    def __post_init__(self) -> None:
        if self.network not in ("unet", "mlp"):
            raise UserError(f"network {self.network!r}: expected 'unet' or 'mlp'")
        if self.compute_dtype not in ("float32", "bfloat16"):
            raise UserError(f"compute_dtype {self.compute_dtype!r}: expected 'float32' or 'bfloat16'")
        halvings = 2 ** (len(self.dim_mults) - 1)
        if self.network == "unet" and self.horizon % halvings:
            raise UserError(
                f"horizon {self.horizon} with dim_mults {self.dim_mults}: expected a multiple of {halvings}"
            )
        if self.algorithm == "gaussian" and self.gaussian.std_kind == "state" and self.network != "mlp":
            raise UserError(f"std_kind 'state' with network {self.network!r}: expected the network 'mlp'")

    @property
    def has_images(self) -> bool:
        """True where the policy observes images."""
        return self.observation == "images"


@dataclass(frozen=True)
class BCConfig:
    """Behavior cloning."""

    episodes: int = 3
    """Demonstrations to clone, the longest quarter left out; PPO does the rest."""
    optimizer_steps: int = 2000
    """Optimizer steps; the learning rate ends there."""
    batch: int = 128
    """Chunks a step."""
    learning_rate: float = 1e-3
    """Peak of the cosine."""
    learning_rate_end: float = 1e-5
    """End of the cosine."""
    warmup: int = 100
    """Optimizer steps of warm-up."""
    weight_decay: float = 1e-6
    """Of AdamW."""
    ema_decay: float = 0.995
    """Fraction of the averaged parameters that is kept at a step."""
    max_grad_norm: float | None = 1.0
    """Gradients with a larger global norm are scaled down to it; None leaves them."""
    action_floor: float | None = 0.05
    """Smallest half range of an action in the normalizer; None leaves actions as they are."""
    stop_success: float | None = None
    """Cloning ends where the policy succeeds this often from training reset states; None goes on to the last step."""
    check_every: int = 500
    """Optimizer steps between two such checks."""
    check_episodes: int = 50
    """Episodes of a check."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.optimizer_steps:
            raise UserError(f"bc.warmup {self.warmup} of {self.optimizer_steps} optimizer steps: expected fewer")
        if self.batch < 1:
            raise UserError(f"bc.batch {self.batch}: expected 1 or more")
        if self.episodes < 1:
            raise UserError(f"bc.episodes {self.episodes}: expected 1 or more demonstrations to clone")
        if self.stop_success is not None and not 0 < self.stop_success <= 1:
            raise UserError(f"bc.stop-success {self.stop_success}: expected a fraction above 0, at most 1")
        if self.check_every < 1 or self.check_episodes < 1:
            raise UserError(
                f"bc.check-every {self.check_every}, bc.check-episodes {self.check_episodes}: expected 1 or more"
            )


@dataclass(frozen=True)
class PPOConfig:
    """PPO over the denoising chain."""

    iterations: int = 26
    """Rounds of collection and update."""
    environments: int = 40
    """Parallel environments."""
    groups: int = 1
    """Groups of environments that take turns: one is stepped and rendered while another's chunks are sampled."""
    chunks: int = 35
    """Action chunks that each environment executes in an iteration; every iteration begins with new episodes."""
    epochs: int = 5
    """Passes over an iteration's data."""
    batch: int = 1750
    """(chunk, denoising step) pairs in a minibatch."""
    actor_learning_rate: float = 1e-4
    """Peak learning rate of the policy."""
    critic_learning_rate: float = 1e-3
    """Peak learning rate of the critic."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning-rate schedule over the run; constant is the paper's ablation."""
    critic_warmup: int = 1
    """First iterations, in which only the critic learns."""
    gamma: float = 0.95
    """Discount of a chunk."""
    gae_lambda: float = 0.95
    """Trace decay of generalized advantage estimation."""
    gamma_denoise: float = 0.99
    """Discount along the denoising chain, from the clean end."""
    clip: float = 0.015
    """Clip width of the ratio at the last denoising step."""
    clip_base: float = 0.0015
    """Clip width at the first denoising step."""
    clip_rate: float = 3.0
    """How steeply the width grows along the chain; 0 is linear."""
    normalize_advantage: bool = True
    """Advantages have mean 0 and standard deviation 1 within a minibatch."""
    advantage_quantiles: tuple[float, float] | None = None
    """Advantages are clamped to these quantiles of the minibatch; None leaves them."""
    value_clip: float | None = None
    """How far a value may move in an update before it stops counting; None for any."""
    value_weight: float = 1.0
    """Weight of the value loss, half the mean squared error."""
    bc_weight: float = 0.0
    """Weight of the loss towards the cloned policy; 0 for none."""
    entropy_weight: float = 0.0
    """Weight of a Gaussian policy's entropy."""
    max_grad_norm: float = 1.0
    """Gradients with a larger global norm are scaled down to it."""
    weight_decay: float = 0.0
    """Of AdamW, policy and critic."""
    target_kl: float | None = 1.0
    """An update stops for this iteration above this approximate KL divergence; None never stops."""
    action_steps: int | None = None
    """Leading actions of a chunk that are executed and count; None for all."""
    random_shift: int = 4
    """Largest random shift of images, pixels."""
    microbatch: int | None = None
    """Pairs whose gradient is computed at a time; those of a minibatch are averaged. None for all."""
    evaluate_every: int = 13
    """Iterations between two evaluations of the deterministic policy."""
    evaluate_episodes: int = 25
    """Episodes of such an evaluation."""
    evaluate_split: Literal["train", "heldout"] = "train"
    """Training reset states in fast physics, or the benchmark's stored initial states in exact physics."""
    target: float | None = None
    """Training ends where an evaluation reaches this success rate; None goes on to the last iteration."""
    target_low: float = 0.0
    """And where the lower end of its 95 % interval reaches this."""

    def __post_init__(self) -> None:
        if self.target is not None and not 0 < self.target <= 1:
            raise UserError(f"ppo.target {self.target}: expected a fraction above 0, at most 1")
        if self.action_steps is not None and self.action_steps < 1:
            raise UserError(f"ppo.action-steps {self.action_steps}: expected 1 or more")
        for name in ("iterations", "environments", "chunks", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"ppo.{name} {getattr(self, name)}: expected 1 or more")
        if self.groups < 1 or self.environments % self.groups:
            raise UserError(f"ppo.groups {self.groups} of {self.environments} environments: expected a divisor")


@dataclass(frozen=True)
class CollectConfig:
    """Successes of the finished expert."""

    episodes: int = 50
    """Successful episodes to keep."""
    max_trials: int = 200
    """Episodes after which collection gives up."""


@dataclass(frozen=True)
class ExportConfig:
    """The RLDS dataset."""

    image_size: int = 128
    """Height and width of the images, pixels."""
    renderer: Literal["fast", "benchmark"] = "fast"
    """`fast` needs no GL library; `benchmark` renders the official pixels and needs EGL or OSMesa."""
    shards: int = 4
    """Files of the dataset."""


@dataclass(frozen=True)
class VlaStageConfig:
    """The flow VLA of a run."""

    model: Literal["tiny", "small"] = "small"
    """Preset of the model."""
    optimizer_steps: int = 600
    """Optimizer steps."""
    batch: int = 32
    """Frames a step."""
    checkpoint_every: int = 150
    """Optimizer steps between two checkpoints."""


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
    workers: int = 2
    """Threads that step environments and render images; processes that record demonstrations."""
    wandb: str | None = None
    """Project of Weights & Biases that PPO's metrics go to as well; needs the extra `wandb`."""
    demos: DemosConfig = field(default_factory=DemosConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    bc: BCConfig = field(default_factory=BCConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    vla: VlaStageConfig = field(default_factory=VlaStageConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers {self.workers}: expected 1 or more")
        if self.ppo.action_steps is not None and self.ppo.action_steps > self.policy.horizon:
            raise UserError(
                f"ppo.action-steps {self.ppo.action_steps} of a chunk of {self.policy.horizon}: expected no more"
            )


def to_json(config: Config) -> dict[str, Any]:
    """Returns the configuration as JSON."""
    return dataclasses.asdict(config)


def from_json(value: dict[str, Any]) -> Config:
    """Returns the configuration that `to_json` of this version wrote; see `aliases.upgrade` for older ones.

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


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Returns the settings that two configurations do not share, as `name (before -> now)`.

    Args:
      before: a configuration as JSON, or a part of one.
      now: another.
      prefix: what precedes the names.
    """
    found = []
    for key in sorted(set(before) | set(now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{key}.")
        elif (list(old) if isinstance(old, tuple) else old) != (list(new) if isinstance(new, tuple) else new):
            found.append(f"{prefix}{key} ({old} -> {new})")
    return found
