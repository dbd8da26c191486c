"""The stage `bc`: behavior cloning of the policy on the demonstrations."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from rlgen.configs.schema import BCConfig, Config
from rlgen.configs.stored import to_json
from rlgen.core.errors import UserError
from rlgen.core.files import write_json
from rlgen.core.ownership import has_keys, read_record
from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode, ImageObservation
from rlgen.data.formats.hdf5.reader import read_demos
from rlgen.data.metrics.smoothness import idle_mask
from rlgen.demos.corrections import Takeover, corrections, takeover_horizon
from rlgen.demos.scripted.expert import ScriptedExpert
from rlgen.evaluation.loop import WIDTH, EpisodeFolder, run_trials
from rlgen.libero.envs.image_observer import vector_with_robot_state
from rlgen.libero.envs.observations import Observer
from rlgen.libero.rendering.pool import RenderPool
from rlgen.pipeline import demos
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.policy import AnyPolicy, check_devices, make_actor, make_policy, measure
from rlgen.policies.base import Params
from rlgen.rl import bc
from rlgen.training.checkpoints import Checkpoints
from rlgen.training.metrics import Metrics
from rlgen.training.sharding import one_copy, place_state, replicate, restore_target

# Optimizer steps in one call of the compiled function, and calls between two checkpoints.
STEPS_A_CALL = 100
CALLS_A_CHECKPOINT = 10
# Of the training reset states those that corrections begin from, each round from the next ones: whoever wants to score
# the clone from states that it was not corrected in has the others.
CORRECTED = 150
# Skills that the expert may fail in once it has taken over: planning takes seconds, and what can be put right is put
# right by then.
TRIES = 3


def run(context: Context, work: Work) -> dict[str, Any]:
    """Trains `bc.optimizer_steps` steps, or until the policy succeeds as often as `bc.stop_success` asks for.

    Checkpoints are written every thousand steps and with every check of the success rate.
    """
    config = context.run.config
    policy, mesh = make_policy(config, context.scene), context.mesh
    check_devices(policy, config, mesh)
    known = demonstration_data(context, policy)
    data = known
    start = jax.jit(lambda key: bc.init_state(key, policy, config.bc, data))
    state = place_state(mesh, start(jax.random.PRNGKey(context.seed("bc"))))
    data, rounds, enough = replicate(mesh, known), 0, False
    expert = demos.scripted_expert(context, TRIES)
    with Checkpoints(work.folder / "checkpoints") as checkpoints:
        stopped = None
        if checkpoints.latest() is not None:
            state, metadata = checkpoints.restore(restore_target(mesh, state))
            stopped = metadata.get("stopped")
        step = int(state.step)
        metrics = Metrics(work.folder / "metrics.jsonl", keep=step) if context.devices.is_first else None
        work.progress.total = config.bc.optimizer_steps
        work.progress.update(advance=step)
        work.progress.log("compiling the training step (about 15 s)")
        while step < config.bc.optimizer_steps and stopped is None:
            while not enough and rounds < config.bc.correction_rounds and step >= _correction_step(config.bc, rounds):
                enough = _needs_no_corrections(context, work, policy, state, rounds)
                if not enough:
                    known = _with_corrections(context, work, policy, state, known, rounds, expert)
                    data, rounds = replicate(mesh, known), rounds + 1
            count = _steps_of_next_call(config.bc, step)
            state, values = bc.train_steps(policy, config.bc, state, data, count, mesh)
            values: dict[str, Any] = {name: float(value) for name, value in values.items()}
            step = int(state.step)
            _check_finite(values, step, context)
            target = config.bc.stop_success
            checked = target is not None and step % config.bc.check_every == 0
            if target is not None and checked:
                options = {"episodes": config.bc.check_episodes, "seed": context.seed("bc-check", step)}
                rate = _success(context, policy, state, **options)
                values["success"] = rate.to_json()
                work.progress.log(f"step {step}: {rate} from training reset states")
                stopped = rate.to_json() if rate.rate >= target else None
            if metrics is not None:
                metrics.write(step, **values)
            work.progress.update(advance=count, note=f"loss {values['loss']:.4f}")
            pauses = {_correction_step(config.bc, number) for number in range(config.bc.correction_rounds)}
            pauses.add(config.bc.optimizer_steps)
            if checked or step % (STEPS_A_CALL * CALLS_A_CHECKPOINT) == 0 or step in pauses:
                metadata = {
                    **{"stage": "bc", "task": context.scene.task.id, "config": to_json(config)},
                    "stopped": stopped,
                }
                checkpoints.save(step, state, metadata)
                if context.devices.is_first:
                    work.clock.save()
    result = {"steps": step, "parameters": count_parameters(state.net), "chunks": len(known.chunk)}
    return result | ({} if stopped is None else {"stopped": stopped})


def load_policy(context: Context) -> tuple[AnyPolicy, Params]:
    """Returns the cloned policy of a run, and its averaged parameters."""
    context.run.result("bc")
    config = context.run.config
    policy = make_policy(config, context.scene)
    shape = jax.eval_shape(lambda: _blank_state(policy, config))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)
    with Checkpoints(context.run.folder / "bc" / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(blank)
    return policy, bc.policy_params(state)


def read_demonstrations(context: Context) -> list[Episode]:
    """Reads the run's demonstrations.

    Raises:
      UserError: they are damaged or of another scene.
    """
    path = context.run.folder / "demos" / demos.FILE
    context.run.result("demos")
    episodes = read_demos(path)
    expected = context.scene.stored_states.shape[1]
    for index, episode in enumerate(episodes):
        if episode.states.shape[1] != expected:
            raise UserError(
                f"{path}: demo_{index} has states of length {episode.states.shape[1]}, "
                f"{context.scene.task.id} has {expected}; record demonstrations of this task"
            )
    return episodes


def demonstration_data(context: Context, policy: AnyPolicy) -> bc.BCData:
    """Returns chunks of the shorter demonstrations, without their pauses, with the observations before them."""
    episodes = _without_longest(read_demonstrations(context))[: context.run.config.bc.episodes]
    return _chunks(context, policy, episodes)


def _needs_no_corrections(context: Context, work: Work, policy: AnyPolicy, state: bc.BCState, number: int) -> bool:
    """Returns whether the exploring policy succeeds as often as `bc.correction_target` asks for.

    What was found is kept in the stage's folder: a resumed stage does what it did before.
    """
    config = context.run.config.bc
    if config.correction_target is None:
        return False
    path = work.folder / "corrections" / f"{number}.json"
    stored = read_record(path)
    if not has_keys(stored, "successes", "trials"):
        options = {"episodes": config.correction_episodes, "seed": context.seed("bc-correction-check", number)}
        rate = _success(context, policy, state, **options, offset=_first_placement(config, number), explore=True)
        stored = rate.to_json()
        if context.devices.is_first:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, stored)
        work.progress.log(f"step {int(state.step)}: {rate} from training reset states, with noise")
    return SuccessRate.from_json(stored).rate >= config.correction_target


def _with_corrections(
    context: Context,
    work: Work,
    policy: AnyPolicy,
    state: bc.BCState,
    known: bc.BCData,
    number: int,
    expert: ScriptedExpert,
) -> bc.BCData:
    """Returns the data so far with a round of corrections: the scripted expert's ways on from where the policy led to.

    The policy explores as it will in PPO, so that the clone knows the places that the noise leads to. What was made is
    kept in the stage's folder, and a resumed stage reads it.
    """
    config, horizon = context.run.config, context.scene.task.horizon
    folder = work.folder / "corrections" / str(number)
    actor = make_actor(context, policy, one_copy(context.mesh, bc.policy_params(state)), explore=True)
    if context.devices.is_first:
        run_trials(
            context.scene,
            Takeover(actor, expert),
            config.bc.correction_episodes,
            EpisodeFolder(folder),
            seed=context.seed("bc-corrections", number),
            split=context.scene.training_split,
            offset=_first_placement(config.bc, number),
            source="bc",
            width=min(WIDTH, config.bc.correction_episodes),
            threads=config.workers,
            physics="fast",
            fixtures=context.scene.training_fixtures,
            horizon=takeover_horizon(horizon),
            on_chunk=lambda active: work.progress.update(advance=0, note=f"corrections, {active} unfinished"),
            on_wave=work.clock.save,
        )
    context.wait_for_all("corrections")
    found = corrections(EpisodeFolder(folder).load(), horizon)
    work.progress.log(f"step {int(state.step)}: {len(found)} corrections in {config.bc.correction_episodes} episodes")
    more = _chunks(context, policy, found) if found else None
    return known if more is None else jax.tree.map(lambda *parts: np.concatenate(parts), known, more)


def _chunks(context: Context, policy: AnyPolicy, episodes: Sequence[Episode]) -> bc.BCData:
    """Returns chunks of episodes without their pauses, with the observations before them."""
    vectors, actions, states, fixtures = [], [], [], []
    for episode in episodes:
        path = Observer(context.scene.placed(episode.fixtures))(episode.states)
        busy = ~idle_mask(episode.actions, path.robot.gripper)
        # The wait for the object to fall ends an episode, and is what to do after letting go.
        busy[-policy.horizon :] = True
        vector = vector_with_robot_state(path) if policy.has_images else path.vector
        vectors.append(vector[:-1][busy])
        actions.append(episode.actions[busy])
        states.append(episode.states[:-1][busy])
        fixtures += [episode.fixtures] * len(states[-1])
    data = bc.chunk_data(vectors, actions, policy.horizon)
    if not policy.has_images:
        return data
    encoder, workers = policy.config.image_encoder, context.run.config.workers
    with RenderPool(context.scene, encoder.renderer, image_size=encoder.image_size, workers=workers) as pool:
        images = pool.render(np.concatenate(states), fixtures=fixtures)
    return replace(data, observation=ImageObservation(images=images, vector=data.observation))


def _without_longest(episodes: list[Episode]) -> list[Episode]:
    """Returns all but the longest quarter, in their order."""
    limit = np.quantile([len(episode) for episode in episodes], 0.75)
    return [episode for episode in episodes if len(episode) <= limit]


def _steps_of_next_call(config: BCConfig, step: int) -> int:
    """Returns optimizer steps until the next pause: a call's, a check's, a round of corrections', or the last one."""
    ahead = [STEPS_A_CALL, config.optimizer_steps - step]
    starts = (_correction_step(config, number) for number in range(config.correction_rounds))
    ahead += [start - step for start in starts if start > step]
    if config.stop_success is not None:
        ahead.append(config.check_every - step % config.check_every)
    return min(ahead)


def _correction_step(config: BCConfig, number: int) -> int:
    """Returns the optimizer step before which a round of corrections is made, counted from 0."""
    return config.optimizer_steps * (number + 1) // (config.correction_rounds + 1)


def _first_placement(config: BCConfig, number: int) -> int:
    """Returns the training reset state with which a round of corrections begins."""
    return number * config.correction_episodes % CORRECTED


def _check_finite(values: dict[str, float], step: int, context: Context) -> None:
    """Raises for the first quantity that is not finite."""
    lower = f"--bc.learning-rate {context.run.config.bc.learning_rate / 10:.1g}"
    for name in ("loss", "grad_norm"):
        if not np.isfinite(values[name]):
            raise UserError(
                f"the BC {name} is {values[name]} at step {step}",
                f"repeat it with a lower rate: `{context.run.repeat('bc', lower)}`",
            )


def _success(context: Context, policy: AnyPolicy, state: bc.BCState, **options: Any) -> SuccessRate:
    """Measures success from training reset states (options of `measure`); the stored initial states stay held out."""
    params, scene = bc.policy_params(state), context.scene
    of_training = {"split": scene.training_split, "fixtures": scene.training_fixtures}
    return measure(context, policy, params, source="bc", **of_training, **options).summary().rate


def _blank_state(policy: AnyPolicy, config: Config) -> bc.BCState:
    observation = np.zeros((1, policy.observation_size), np.float32)
    if policy.has_images:
        encoder = config.policy.image_encoder
        images = np.zeros((1, encoder.cameras, encoder.image_size, encoder.image_size, 3), np.uint8)
        observation = ImageObservation(images=images, vector=observation)
    chunk = np.zeros((1, policy.horizon, policy.action_size), np.float32)
    return bc.init_state(jax.random.PRNGKey(0), policy, config.bc, bc.BCData(observation, chunk))


def count_parameters(params: Params) -> int:
    """Returns the number of parameters in a pytree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
