"""Configurations of a run as frozen dataclasses: one class for each thing that can be chosen.

Policies, losses and stages read these classes themselves; nothing copies their fields. The command line makes an option
of every field, with the text below it as help. The resolved configuration is stored with the run (`stored`). Imports
nothing heavy, so that `--help` answers at once.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from rlgen.configs.ranges import (
    Batch,
    Chunk,
    Count,
    Environments,
    Fraction,
    LearningRate,
    Natural,
    Pixels,
    Positive,
    PositiveFraction,
    Range,
    Seed,
    Settings,
    Shards,
    Shift,
    Weight,
    Width,
    Workers,
)
from rlgen.core.errors import UserError
from rlgen.core.files import expanded


@dataclass(frozen=True)
class DemosConfig(Settings):
    """Demonstrations: scripted, or from a file."""

    section: ClassVar[str] = "demos."

    episodes: Count = 40
    """Successful episodes to record, or to take from the file at most."""
    clean: bool = False
    """Straight and steady instead of human-like."""
    habits: bool = True
    """Clean episodes grasp as the expert does most often wherever that is possible."""
    styles: Count | None = None
    """Number of human-like styles that episodes share; None draws one for each."""
    file: str | None = None
    """HDF5 file of demonstrations of the task, human or recorded by rlgen, in place of scripted ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clean and self.styles is not None:
            raise UserError(f"demos.styles {self.styles} with demos.clean: give one of them")
        if self.file is not None:
            # A run may be resumed from another folder.
            object.__setattr__(self, "file", str(expanded(self.file).absolute()))


@dataclass(frozen=True)
class ImageEncoderConfig(Settings):
    """The encoder of a policy that observes images."""

    section: ClassVar[str] = "policy.image_encoder."

    image_size: Pixels = 128
    """Height and width of the images of all cameras, pixels."""
    cameras: Annotated[int, Range(1, 2)] = 2
    """Number of cameras: the front camera, then the one in the hand."""
    backbone: Literal["resnet", "vit"] = "resnet"
    """Residual network, or vision transformer, the paper's ablation."""
    widths: tuple[Width, ...] = (64, 128, 256, 512)
    """Channels of the residual network's stages."""
    blocks: Width = 1
    """Residual blocks of each stage."""
    keypoints: Width = 32
    """Features of each camera whose positions in the image the residual network reads (spatial softmax)."""
    token_size: Width = 128
    """Width of a token of the vision transformer."""
    depth: Width = 1
    """Layers of the vision transformer."""
    heads: Width = 4
    """Heads of its attention."""
    embedding_size: Width = 128
    """Width of each camera's embedding behind the vision transformer."""
    robot_state_size: Width = 8
    """Leading numbers of the observation vector that a policy with images reads: the robot's own state."""
    random_shift: Shift = 4
    """Largest random shift of images in behavior cloning, pixels."""
    renderer: Literal["fast", "warp"] = "fast"
    """Renderer of all images that the policy reads: in software, or the ray tracer on an accelerator."""


@dataclass(frozen=True)
class DiffusionConfig(Settings):
    """The denoising chain of a diffusion policy."""

    section: ClassVar[str] = "policy.diffusion."

    prediction: Literal["eps", "x0", "v"] = "eps"
    """The network's prediction: the noise, the clean chunk, or the velocity between them."""
    train_timesteps: Annotated[int, Range(1, 10_000)] = 100
    """Length of the noise schedule that cloning trains on."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """DDIM of `denoising_steps` steps, or DDPM, which takes all `train_timesteps`."""
    denoising_steps: Chunk = 5
    """Steps of the DDIM chain in rollouts, updates and evaluation."""
    num_finetuned_steps: Chunk | None = None
    """Last steps of the chain that PPO trains, K; the cloned network takes those before. None for all."""
    eta_train: Fraction = 1.0
    """DDIM's eta in rollouts and in the likelihood; 0 is deterministic, 1 has DDPM's variance."""
    eta_act: Fraction = 1.0
    """DDIM's eta in evaluation and collection, which add no noise: 0, or `eta_train` for the means of that chain."""
    act_sampler: Literal["dpm"] | None = None
    """DPM-Solver++ in evaluation and collection in place of the trained chain."""
    sigma_min_sample: Weight = 0.05
    """Smallest standard deviation of a denoising step in rollouts, in units of normalized actions."""
    sigma_min_logprob: Positive = 0.05
    """Smallest standard deviation of a denoising step in the likelihood, likewise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_steps > self.train_timesteps:
            at_most = f"{self.train_timesteps}, the steps of the schedule"
            raise UserError(f"policy.diffusion.denoising-steps {self.denoising_steps}: expected at most {at_most}")
        chosen, steps = self.num_finetuned_steps, self.num_steps
        if chosen is not None and not 1 <= chosen <= steps:
            raise UserError(f"num_finetuned_steps {chosen}: expected 1 to {steps}, the steps of the chain")

    @property
    def num_steps(self) -> int:
        """Steps of the whole chain in rollouts."""
        return self.train_timesteps if self.sampler == "ddpm" else self.denoising_steps


@dataclass(frozen=True)
class GaussianConfig(Settings):
    """The distribution of the Gaussian baseline, in units of normalized actions."""

    section: ClassVar[str] = "policy.gaussian."

    std: Positive = 0.1
    """Standard deviation at the start, or for good where it is fixed."""
    std_kind: Literal["learned", "state", "fixed"] = "learned"
    """One log variance for every dimension of an action, a second output of the MLP, or a constant."""
    std_range: tuple[Positive, Positive] = (0.01, 0.2)
    """Range of a standard deviation that is learned."""
    residual: bool = True
    """Residual blocks in the MLP."""
    bc_entropy_weight: Weight = 0.0
    """Weight of the entropy in behavior cloning."""
    clip_noise: Positive = 3.0
    """Draws are clamped to this many standard deviations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.std_range
        if not low < high:
            raise UserError(f"policy.gaussian.std-range {low} {high}: expected a range that rises")


@dataclass(frozen=True)
class CriticConfig(Settings):
    """The critic beside the policy."""

    section: ClassVar[str] = "policy.critic."

    widths: tuple[Width, ...] = (256, 256, 256)
    """Hidden widths of a residual MLP."""
    activation: Literal["mish", "relu"] = "mish"
    """Its activation."""
    privileged: bool = False
    """Reads the physics state in place of the policy's image features; it is not needed when acting."""


@dataclass(frozen=True)
class PolicyConfig(Settings):
    """The policy and its critic."""

    section: ClassVar[str] = "policy."

    algorithm: Literal["diffusion", "gaussian"] = "diffusion"
    """The policy that PPO trains: a denoising chain, or the baseline's single Gaussian on the same network."""
    observation: Literal["state", "images"] = "state"
    """Proprioception and object poses, or images of both cameras and proprioception."""
    objects: Literal["goal", "all"] = "goal"
    """Whose poses a state has: the goal's objects', or also where all others and fixtures are: grasps depend on it."""
    horizon: Chunk = 8
    """H, actions in a chunk; all are executed unless `ppo.action_steps` is set."""
    network: Literal["unet", "mlp"] = "unet"
    """1-D U-Net over the chunk, or an MLP, the paper's ablation."""
    dim: Width = 32
    """Channels of the U-Net's finest level."""
    dim_mults: tuple[Width, ...] = (1, 2)
    """Channels of each level of the U-Net as multiples of `dim`."""
    norm_groups: Width | None = 8
    """Groups of channels that the U-Net normalizes; None for no normalization."""
    film_deep: bool = False
    """Three-layer FiLM encoders in the U-Net."""
    mlp_widths: tuple[Width, ...] = (384, 384, 384)
    """Hidden widths of the MLP."""
    time_embedding_size: Width = 16
    """Width of the timestep's embedding."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations; parameters, log-probabilities and losses stay float32."""
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    gaussian: GaussianConfig = field(default_factory=GaussianConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        halvings = 2 ** (len(self.dim_mults) - 1)
        if self.network == "unet" and self.horizon % halvings:
            raise UserError(
                f"horizon {self.horizon} with dim_mults {self.dim_mults}: expected a multiple of {halvings}"
            )
        channels = [self.dim * multiple for multiple in self.dim_mults]
        if self.network == "unet" and any(size % (self.norm_groups or 1) for size in channels):
            raise UserError(f"norm_groups {self.norm_groups} of {channels} channels: expected a divisor, or None")
        if self.algorithm == "gaussian" and self.gaussian.std_kind == "state" and self.network != "mlp":
            raise UserError(f"std_kind 'state' with network {self.network!r}: expected the network 'mlp'")

    @property
    def has_images(self) -> bool:
        """True where the policy observes images."""
        return self.observation == "images"


@dataclass(frozen=True)
class BCConfig(Settings):
    """Behavior cloning."""

    section: ClassVar[str] = "bc."

    episodes: Count = 3
    """Demonstrations to clone, the longest quarter left out; PPO does the rest."""
    optimizer_steps: Count = 2000
    """Optimizer steps; the learning rate ends there."""
    batch: Batch = 128
    """Chunks a step."""
    learning_rate: LearningRate = 1e-3
    """Peak of the cosine."""
    learning_rate_end: LearningRate = 1e-5
    """End of the cosine."""
    warmup: Natural = 100
    """Optimizer steps of warm-up."""
    weight_decay: Weight = 1e-6
    """Of AdamW."""
    ema_decay: Fraction = 0.995
    """Fraction of the averaged parameters that is kept at a step."""
    max_grad_norm: Positive | None = 1.0
    """Gradients with a larger global norm are scaled down to it; None leaves them."""
    action_floor: Positive | None = 0.05
    """Smallest half range of an action in the normalizer; None leaves actions as they are."""
    stop_success: PositiveFraction | None = None
    """Cloning ends where the policy succeeds this often from training reset states; None goes on to the last step."""
    check_every: Count = 500
    """Optimizer steps between two such checks."""
    check_episodes: Count = 50
    """Episodes of a check."""
    correction_rounds: Natural = 0
    """Times, evenly spread over cloning, that the scripted expert takes over; its way from there is cloned as well."""
    correction_episodes: Count = 50
    """Episodes of such a round, from training reset states."""
    correction_target: PositiveFraction | None = None
    """No further round is made where the policy with PPO's noise succeeds this often before it, in as many episodes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("warmup", self.warmup), ("correction-rounds", self.correction_rounds)):
            if value >= self.optimizer_steps:
                raise UserError(f"bc.{name} {value} of {self.optimizer_steps} optimizer steps: expected fewer")


@dataclass(frozen=True)
class PPOConfig(Settings):
    """PPO over the denoising chain."""

    section: ClassVar[str] = "ppo."

    iterations: Count = 26
    """Of collection and update; the learning rates fall over so many."""
    rounds: Count = 1
    """As many iterations follow, up to so often, while the last evaluation misses the target; rates begin anew."""
    world: Literal["cpu", "warp"] = "cpu"
    """Environments on threads, or on an accelerator (MuJoCo Warp), where a whole iteration is one program."""
    environments: Environments = 40
    """Parallel environments."""
    groups: Environments = 1
    """Groups of environments that take turns: one is stepped and rendered while another's chunks are sampled."""
    chunks: Count = 35
    """Action chunks that each environment executes in an iteration; every iteration begins with new episodes."""
    epochs: Count = 5
    """Passes over an iteration's data."""
    batch: Batch = 1750
    """(chunk, denoising step) pairs in a minibatch."""
    actor_learning_rate: LearningRate = 1e-4
    """Peak learning rate of the policy."""
    critic_learning_rate: LearningRate = 1e-3
    """Peak learning rate of the critic."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning-rate schedule over the run; constant is the paper's ablation."""
    critic_warmup: Natural = 1
    """First iterations, in which only the critic learns."""
    warm_moments: bool = False
    """In the critic's warm-up the policy's Adam averages gradients, so that its first steps are not its largest."""
    gamma: Fraction = 0.95
    """Discount of a chunk."""
    reward_gamma: Fraction | None = None
    """Discount of the return by whose standard deviation rewards are divided; None for `gamma`."""
    gae_lambda: Fraction = 0.95
    """Trace decay of generalized advantage estimation."""
    gamma_denoise: Fraction = 0.99
    """Discount along the denoising chain, from the clean end."""
    clip: Positive = 0.015
    """Clip width of the ratio at the last denoising step."""
    clip_base: Positive = 0.0015
    """Clip width at the first denoising step."""
    clip_rate: Weight = 3.0
    """Steepness with which the width grows along the chain; 0 is linear."""
    normalize_advantage: bool = True
    """Advantages have mean 0 and standard deviation 1 within a minibatch."""
    advantage_quantiles: tuple[Fraction, Fraction] | None = None
    """Advantages are clamped to these quantiles of the minibatch; None leaves them."""
    value_clip: Positive | None = None
    """Distance that a value may move in an update before it stops counting; None for any."""
    value_weight: Weight = 1.0
    """Weight of the value loss, half the mean squared error."""
    bc_weight: Weight = 0.0
    """Weight of the loss towards the cloned policy; 0 for none."""
    steadiness_weight: Weight = 0.0
    """Weight of the loss towards steady actions: squared second differences of the arm's mean ones; 0 in the paper."""
    entropy_weight: Weight = 0.0
    """Weight of a Gaussian policy's entropy."""
    max_grad_norm: Positive = 1.0
    """Gradients with a larger global norm are scaled down to it."""
    weight_decay: Weight = 0.0
    """Of AdamW, policy and critic."""
    target_kl: Weight | None = 1.0
    """An update stops for this iteration above this approximate KL divergence; None never stops."""
    action_steps: Chunk | None = None
    """Leading actions of a chunk that are executed and count; None for all."""
    random_shift: Shift = 4
    """Largest random shift of images, pixels."""
    microbatch: Batch | None = None
    """Pairs whose gradient is computed at a time; those of a minibatch are averaged. None for all."""
    evaluate_every: Count = 13
    """Iterations between two evaluations of the deterministic policy."""
    evaluate_episodes: Count = 25
    """Episodes of such an evaluation."""
    evaluate_split: Literal["train", "heldout"] = "train"
    """Training reset states in fast physics, or the benchmark's stored initial states in exact physics."""
    target: PositiveFraction | None = None
    """Training ends where an evaluation reaches this success rate; None goes on to the last iteration."""
    target_low: Fraction = 0.0
    """And where the lower end of its 95 % interval reaches this."""
    plateau: Natural = 0
    """And after so many evaluations at the target without successes shorter or smoother by 3 %; 0 for none."""
    min_iterations: Natural = 0
    """And not before so many iterations."""
    score_episodes: Natural = 0
    """Stored initial states from which the cloned and the trained policy are scored, once, at the end; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.critic_warmup >= self.iterations:
            raise UserError(f"ppo.critic-warmup {self.critic_warmup} of {self.iterations} iterations: expected fewer")
        low, high = self.advantage_quantiles or (0.0, 1.0)
        if not low < high:
            raise UserError(f"ppo.advantage-quantiles {low} {high}: expected two that rise")
        if self.steadiness_weight and self.action_steps == 1:
            raise UserError(f"ppo.steadiness-weight {self.steadiness_weight}: expected ppo.action-steps of 2 or more")
        if self.environments % self.groups:
            raise UserError(f"ppo.groups {self.groups} of {self.environments} environments: expected a divisor")
        if self.world == "warp" and self.groups > 1:
            raise UserError(f"ppo.groups {self.groups} with ppo.world warp: expected 1, as all worlds step at once")


@dataclass(frozen=True)
class CollectConfig(Settings):
    """Successes of the finished expert, or of its clone."""

    section: ClassVar[str] = "collect."

    source: Literal["ppo", "exploring", "clone"] = "ppo"
    """Who acts: the trained policy, the same with PPO's noise, or the cloned one; all from the same initial states."""
    episodes: Count = 50
    """Successful episodes to keep."""
    max_trials: Count = 200
    """Episodes after which collection gives up."""


@dataclass(frozen=True)
class ExportConfig(Settings):
    """The RLDS dataset."""

    section: ClassVar[str] = "export."

    image_size: Pixels = 128
    """Height and width of the images, pixels."""
    renderer: Literal["fast", "benchmark"] = "fast"
    """`fast` needs no GL library; `benchmark` renders the official pixels and needs EGL or OSMesa."""
    shards: Shards = 4
    """Files of the dataset."""


@dataclass(frozen=True)
class VlaStageConfig(Settings):
    """The flow VLA of a run."""

    section: ClassVar[str] = "vla."

    model: Literal["tiny", "small"] = "small"
    """Preset of the model."""
    optimizer_steps: Count = 600
    """Optimizer steps."""
    batch: Batch = 32
    """Frames a step."""
    checkpoint_every: Count = 150
    """Optimizer steps between two checkpoints."""


@dataclass(frozen=True)
class EvaluateConfig(Settings):
    """The final evaluation, on the benchmark's stored initial states."""

    section: ClassVar[str] = "evaluate."

    episodes: Count = 50
    """Episodes of each actor; the stored states in order."""
    vla_episodes: Count = 50
    """Episodes of the VLA."""
    fixtures: Literal["fixed", "redraw"] = "redraw"
    """redraw places cabinets, stoves and racks anew in every episode, as the benchmark does; fixed does not."""


@dataclass(frozen=True)
class Config(Settings):
    """One run: one task, from demonstrations to the report."""

    task: str = "libero_object/pick_up_the_butter_and_place_it_in_the_basket"
    """`<suite>/<name>`, `<suite>/<index>`, a name or an instruction."""
    seed: Seed = 0
    """Root of all randomness."""
    resets: Literal["standard", "wide"] = "standard"
    """Of demonstrations, PPO and collection: from the task's regions, or with objects and robot moved further."""
    fixtures: Literal["fixed", "redraw"] = "redraw"
    """Of demonstrations, training, collection: cabinets, stoves and racks anew, as in the benchmark, or in place."""
    workers: Workers = 2
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
        super().__post_init__()
        if self.ppo.action_steps is not None and self.ppo.action_steps > self.policy.horizon:
            raise UserError(
                f"ppo.action-steps {self.ppo.action_steps} of a chunk of {self.policy.horizon}: expected no more"
            )
        if self.ppo.world == "warp" and self.fixtures != "fixed":
            raise UserError(
                f"fixtures {self.fixtures} with ppo.world warp: expected fixed, as worlds there share a model; "
                "add --fixtures fixed"
            )
        renderer = self.policy.image_encoder.renderer
        if self.policy.has_images and self.ppo.world == "warp" and renderer != "warp":
            raise UserError(f"policy.image-encoder.renderer {renderer} with ppo.world warp: expected warp as well")
