"""`rlgen vla`: fine-tuning, serving and merging of flow VLAs."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from rlgen.cli.common import Inline, given, log, parse
from rlgen.configs.ranges import Batch, Chunk, Megabytes, Milliseconds, Port, Seed, Settings, Workers
from rlgen.core.errors import UserError, first_line
from rlgen.core.ownership import is_vacant
from rlgen.core.process import prepare_process
from rlgen.vla.model.config import Cameras

if TYPE_CHECKING:
    from rlgen.vla.serving.policy import VlaPolicy


def train(argv: Sequence[str]) -> None:
    """Fine-tunes pi0, pi05 or a small model on exported datasets.

    An interrupted training resumes with the same command, exactly, at any number of devices.
    """
    from rlgen.vla.training.config import FineTune, recipe

    model = given(argv, "--model") or FineTune.model
    default = dataclasses.replace(FineTune(model=model), train=recipe(model))
    config = parse(FineTune, argv, "rlgen vla train", train.__doc__ or "", default)
    prepare_process()
    from rlgen.vla.training.fine_tune import fine_tune

    fine_tune(config, log=log)


@dataclass(frozen=True)
class ModelOptions(Settings):
    """Options of how a policy is opened."""

    checkpoint: str | None = None
    """Which model of a fine-tuning's folder: best, last, or a number of steps; the last by default."""
    preset: str | None = None
    """Model of an openpi checkpoint, such as pi05_libero."""
    tokenizer: str | None = None
    """Its SentencePiece model, paligemma_tokenizer.model."""
    norm_stats: Path | None = None
    """Its norm_stats.json, where its assets hold none or several."""
    cameras: Cameras | None = None
    """Cameras of an openpi checkpoint that are computed: all 3 by default; LIBERO's 2 give the same for less work."""
    sampling_steps: Chunk = 10
    """Euler steps of sampling."""
    batch: Batch = 8
    """Observations in a call of the model at most."""

    def open(self, folder: Path, *, buckets: bool) -> "VlaPolicy":
        """Opens the policy of a folder.

        Args:
          folder: model folder, folder of a fine-tuning, or an openpi checkpoint with `preset`.
          buckets: compile batches of 1, 2, 4, ... instead of every size.
        """
        from rlgen.vla.serving.policy import open_policy

        return open_policy(
            folder,
            checkpoint=self.checkpoint,
            preset=self.preset,
            tokenizer=self.tokenizer,
            norm_stats=self.norm_stats,
            cameras=self.cameras,
            sampling_steps=self.sampling_steps,
            batch=self.batch,
            buckets=buckets,
        )


@dataclass(frozen=True)
class ServeArguments(Settings):
    """Options of `rlgen vla serve`."""

    policy: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")]
    """Model folder, folder of a fine-tuning, or an openpi checkpoint with --preset."""
    host: str = "127.0.0.1"
    """Address to listen on; only this machine by default."""
    port: Port = 8000
    """Port to listen on; 0 for any free one."""
    seed: Seed = 0
    """Of the noise."""
    message_mb: Megabytes = 64
    """Largest message of a client, MB; what all clients send takes twice as much memory at most."""
    connections: Workers = 64
    """Clients at once."""
    batch_window_ms: Milliseconds = 0.0
    """Milliseconds in which requests behind the first share a call of the model; 0 answers at once."""
    tracebacks: bool = False
    """Send clients tracebacks of errors, with paths of this machine, instead of one line."""
    model: Annotated[ModelOptions, Inline] = field(default_factory=ModelOptions)


def serve(argv: Sequence[str]) -> None:
    """Serves a policy to openpi's clients; /healthz and /metrics by HTTP."""
    arguments = parse(ServeArguments, argv, "rlgen vla serve", serve.__doc__ or "")
    prepare_process()
    from rlgen.vla.serving.connections import Limits
    from rlgen.vla.serving.policy import call_sizes, policy_metadata, warm_up
    from rlgen.vla.serving.server import PolicyServer, serve_until_signal

    # The event loop waits less long for the threads that read messages.
    sys.setswitchinterval(0.001)
    policy = arguments.model.open(arguments.policy, buckets=True)
    log("compiling")
    first = call_sizes(policy)[0]
    warm_up(policy, [first])
    metadata = policy_metadata(arguments.policy, policy.config.horizon, policy.spec.robot)
    limits = Limits(1_000_000 * arguments.message_mb, arguments.connections)
    server = PolicyServer(
        policy,
        metadata,
        seed=arguments.seed,
        limits=limits,
        window_s=arguments.batch_window_ms / 1000,
        compiled=first,
        tracebacks=arguments.tracebacks,
        log=log,
    )

    def ready(port: int) -> None:
        log(f"serving {arguments.policy} on {arguments.host}:{port}")

    try:
        number = serve_until_signal(server, arguments.host, arguments.port, ready)
    except (OSError, UnicodeError) as error:
        address, reason = f"{arguments.host}:{arguments.port}", getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{address}: {reason}; choose another --host or --port") from error
    log("stopped; what had begun was answered")
    sys.exit(128 + number)


@dataclass(frozen=True)
class MergeAdaptersArguments:
    """Options of `rlgen vla merge`."""

    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")]
    """Model folder with adapters, as `rlgen vla train` writes it."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder for the merged model."""


def merge_adapters(argv: Sequence[str]) -> None:
    """Merges a model's adapters (LoRA) into its weights; openpi reads the result."""
    arguments = parse(MergeAdaptersArguments, argv, "rlgen vla merge", merge_adapters.__doc__ or "")
    if not is_vacant(arguments.out):
        raise UserError(f"{arguments.out} is there already; name a new folder for the merged model")
    prepare_process()
    from rlgen.vla.checkpoints.model_folder import read_description, write_model
    from rlgen.vla.checkpoints.weights import load_params
    from rlgen.vla.model.lora import merge_lora
    from rlgen.vla.model.presets import without_lora

    config, spec, stats = read_description(arguments.model)
    if config.language.lora is None and config.action.lora is None:
        raise UserError(f"{arguments.model} has no adapters; it can be used as it is")
    merged = merge_lora(config, load_params(config, arguments.model))
    write_model(arguments.out, without_lora(config), spec, stats, merged)
    print(f"{arguments.out}: the merged model")
