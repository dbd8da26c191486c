"""`rlgen eval`: success of a policy by the public protocol."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from rlgen.cli.common import (
    AssetGroup,
    AssetOptions,
    Fixtures,
    Inline,
    Physics,
    Renderer,
    TaskWords,
    cores,
    log,
    parse,
)
from rlgen.cli.vla import ModelOptions
from rlgen.configs.ranges import Chunk, Count, Environments, Natural, Pixels, Seconds, Seed, Settings, Workers
from rlgen.core.errors import UserError
from rlgen.core.ownership import only_writer
from rlgen.core.process import cache_folder, prepare_process


@dataclass(frozen=True)
class EvalArguments(Settings):
    """Options of `rlgen eval`."""

    tasks: TaskWords
    """Suite and index (libero_goal/7), name, instruction, a whole suite, or all."""
    policy: Path | None = None
    """Model folder, folder of a fine-tuning, or an openpi checkpoint with --preset."""
    server: str | None = None
    """host:port of a policy server, ours or openpi's, instead."""
    out: Path = Path("runs/evaluation")
    """Folder; an interrupted evaluation resumes with the same command."""
    episodes: Count = 50
    """Episodes of each task, from its initial states in order."""
    split: Literal["heldout", "train", "wide"] = "heldout"
    """The benchmark's stored initial states; or reset states for training, of standard or of wide resets."""
    replan: Chunk = 5
    """Actions that are executed before the policy is asked again."""
    image_size: Pixels = 256
    """Height and width of the rendered images, pixels."""
    renderer: Renderer = "fast"
    """fast needs no GL library; benchmark renders the official pixels."""
    physics: Physics = "exact"
    """exact equals the benchmark's environment."""
    fixtures: Fixtures = "redraw"
    """redraw places cabinets, stoves and racks anew in every episode, as the benchmark does; fixed does not."""
    seed: Seed = 0
    """Of the fixtures and the noise."""
    environments: Environments = 24
    """Environments that play at once."""
    groups: Environments = 3
    """Groups in which they take turns: the policy acts for one while others are stepped and rendered."""
    connections: Workers = 8
    """Connections to a server."""
    server_patience: Seconds = 30.0
    """Seconds to wait until a server that is starting, or busy, greets."""
    server_timeout: Seconds = 300.0
    """Seconds to wait for an answer of a server; its first one may need minutes."""
    videos: Natural = 3
    """Failures of each task that are kept as GIFs."""
    leaderboard: bool = False
    """Also write OUT/leaderboard: every episode and a row, in the layouts of allenai/vla-evaluation-harness."""
    workers: Workers = field(default_factory=cores)
    """Threads that step environments and render images."""
    objects: AssetGroup = field(default_factory=AssetOptions)
    model: Annotated[ModelOptions, Inline] = field(default_factory=ModelOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.policy is not None and self.server is not None:
            raise UserError("--policy and --server: give one of them")


def evaluate(argv: Sequence[str]) -> None:
    """Evaluates a policy, or a policy server, on tasks by the public protocol.

    An interrupted evaluation resumes with the same command, episode by episode.
    """
    arguments = parse(EvalArguments, argv, "rlgen eval", evaluate.__doc__ or "")
    if not arguments.tasks:
        raise UserError("no task: name one or more, such as libero_goal/7, a suite, or all")
    if arguments.policy is None and arguments.server is None:
        raise UserError("no policy: give --policy MODEL or --server HOST:PORT")
    prepare_process()
    from rlgen.evaluation.backends import InProcessBackend, ServerBackend
    from rlgen.evaluation.evaluate import Parallelism
    from rlgen.evaluation.evaluate import evaluate as run_evaluation
    from rlgen.evaluation.leaderboard import Circumstances
    from rlgen.evaluation.protocol import Protocol
    from rlgen.libero.scenes.bundles import load_scene
    from rlgen.libero.tasks.suites import find_tasks
    from rlgen.vla.checkpoints.model_folder import find_model

    protocol = Protocol(
        trials=arguments.episodes,
        replan=arguments.replan,
        image_size=arguments.image_size,
        renderer=arguments.renderer,
        physics=arguments.physics,
        fixtures=arguments.fixtures,
        split=arguments.split,
        seed=arguments.seed,
    )
    tasks = find_tasks(*arguments.tasks)
    name = None if arguments.policy is None else str(find_model(arguments.policy, arguments.model.checkpoint))
    assets, cache = arguments.objects.find(), cache_folder()
    if arguments.server is not None:
        limits = {"patience_s": arguments.server_patience, "timeout_s": arguments.server_timeout}
        backend = ServerBackend(arguments.server, arguments.connections, **limits)
    else:
        policy = arguments.model.open(arguments.policy, buckets=False)
        cut = policy.pipeline.describe_cut(task.prompt for task in tasks)
        if cut is not None:
            log(cut)
        backend = InProcessBackend(policy, name)
    with only_writer(arguments.out):
        report = run_evaluation(
            backend,
            tasks,
            lru_cache(lambda task: load_scene(task, assets, cache)),
            protocol,
            arguments.out,
            parallelism=Parallelism(arguments.environments, arguments.groups, arguments.workers),
            videos=arguments.videos,
            leaderboard=Circumstances(assets.label, assets.kind != "placeholder") if arguments.leaderboard else None,
            log=log,
        )
    backend.close()
    print(json.dumps(report["all"]))
    print(f"{arguments.out / 'report.md'}: the report")
