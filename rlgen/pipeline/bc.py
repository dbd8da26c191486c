"""`rlgen bc`: behaviour cloning of the policy on the demonstrations."""

from typing import Any

import jax
import numpy as np

from rlgen.configs.schema import BCConfig, Config, to_json
from rlgen.core.errors import UserError
from rlgen.core.stats import SuccessRate
from rlgen.core.types import Episode
from rlgen.data.formats.hdf5.reader import read_demos
from rlgen.data.metrics.smoothness import idle_mask
from rlgen.libero.envs.image_observer import full_vector
from rlgen.libero.envs.observations import Observer
from rlgen.libero.rendering.pool import RenderPool
from rlgen.pipeline import demos
from rlgen.pipeline.context import Context, Work
from rlgen.pipeline.policy import AnyPolicy, make_policy, measure
from rlgen.policies.base import Params, Sight
from rlgen.rl import bc
from rlgen.training.checkpoints import Checkpoints
from rlgen.training.metrics import Metrics

# Steps in one call of the compiled function, and calls between two checkpoints.
CALL = 100
CALLS_A_CHECKPOINT = 10


def read_demonstrations(context: Context) -> list[Episode]:
    """The run's demonstrations.

    Raises:
      UserError: they are damaged or of another scene.
    """
    path = context.run.folder / "demos" / demos.FILE
    context.run.result("demos")
    episodes = read_demos(path)
    wanted = context.scene.stored.shape[1]
    for number, episode in enumerate(episodes):
        if episode.states.shape[1] != wanted:
            raise UserError(
                f"{path}: demo_{number} has states of {episode.states.shape[1]} numbers, "
                f"{context.scene.task.id} has {wanted}; record demonstrations of this task"
            )
    return episodes


def demonstration_data(context: Context, policy: AnyPolicy) -> bc.BCData:
    """Chunks of brisk demonstrations, without their pauses, with what was seen before them."""
    observer = Observer(context.scene)
    seen, actions, states = [], [], []
    for episode in _brisk(read_demonstrations(context))[: context.run.config.bc.episodes]:
        path = observer(episode.states)
        busy = ~idle_mask(episode.actions, path.robot.gripper)
        # The wait for the object to fall ends an episode, and is what to do after letting go.
        busy[-policy.horizon :] = True
        vector = path.vector if policy.eyes is None else full_vector(path)
        seen.append(vector[:-1][busy])
        actions.append(episode.actions[busy])
        states.append(episode.states[:-1][busy])
    data = bc.chunk_data(seen, actions, policy.horizon)
    if policy.eyes is None:
        return data
    with RenderPool(context.scene, image_size=policy.eyes.size, workers=context.run.config.threads) as pool:
        images = pool.render(np.concatenate(states))
    return data.replace(observation=Sight(images=images, vector=data.observation))


def _brisk(episodes: list[Episode]) -> list[Episode]:
    """All but the longest quarter, in their order."""
    limit = np.quantile([len(episode) for episode in episodes], 0.75)
    return [episode for episode in episodes if len(episode) <= limit]


def run(context: Context, work: Work) -> dict[str, Any]:
    """Trains `bc.steps` steps, or until the policy succeeds as often as `bc.stop_success` asks for.

    Checkpoints come every thousand steps and with every check of the success.
    """
    config = context.run.config
    policy = make_policy(config, context.scene)
    data = demonstration_data(context, policy)
    start = jax.jit(lambda key: bc.init_state(key, policy, config.bc, data))
    state = start(jax.random.PRNGKey(context.seed("bc")))
    with Checkpoints(work.folder / "checkpoints") as checkpoints:
        stopped = None
        if checkpoints.latest() is not None:
            state, told = checkpoints.restore(state)
            stopped = told.get("stopped")
        step = int(state.step)
        metrics = Metrics(work.folder / "metrics.jsonl", keep=step)
        work.progress.total = config.bc.steps
        work.progress.update(advance=step)
        work.progress.log("compiling the training step (about 15 s)")
        while step < config.bc.steps and stopped is None:
            count = _next_call(config.bc, step)
            state, values = bc.train_steps(policy, config.bc, state, data, count)
            values = {name: float(value) for name, value in values.items()}
            step = int(state.step)
            _check(values, step, checkpoints)
            checked = config.bc.stop_success is not None and step % config.bc.check_every == 0
            if checked:
                rate = _measure(context, policy, state, step)
                values["success"] = rate.to_json()
                work.progress.log(f"step {step}: {rate} on training placements")
                stopped = rate.to_json() if rate.rate >= config.bc.stop_success else None
            metrics.write(step, **values)
            work.progress.update(advance=count, note=f"loss {values['loss']:.4f}")
            if checked or step % (CALL * CALLS_A_CHECKPOINT) == 0 or step == config.bc.steps:
                told = {"stage": "bc", "task": context.scene.task.id, "config": to_json(config), "stopped": stopped}
                checkpoints.save(step, state, told)
                work.clock.save()
    told = {"steps": step, "parameters": count_parameters(state.net), "chunks": len(data.chunk)}
    return told | ({} if stopped is None else {"stopped": stopped})


def _next_call(config: BCConfig, step: int) -> int:
    """Steps until the next pause: a call's, a check's, or the last one."""
    ahead = [CALL, config.steps - step]
    if config.stop_success is not None:
        ahead.append(config.check_every - step % config.check_every)
    return min(ahead)


def _check(values: dict[str, float], step: int, checkpoints: Checkpoints) -> None:
    """Raises for the first quantity that is not finite."""
    for name in ("loss", "grad_norm"):
        if not np.isfinite(values[name]):
            kept = checkpoints.latest()
            last = "there is no checkpoint yet" if kept is None else f"the last good checkpoint is step {kept}"
            raise UserError(f"the BC {name} is {values[name]} at step {step}; {last}; lower --bc.learning-rate")


def _measure(context: Context, policy: AnyPolicy, state: bc.BCState, step: int) -> SuccessRate:
    """Success on training placements; the stored states are not touched."""
    return measure(
        context,
        policy,
        bc.policy_params(state),
        split="train",
        episodes=context.run.config.bc.check_episodes,
        seed=context.seed("bc-check", step),
        source="bc",
    )


def load_policy(context: Context) -> tuple[AnyPolicy, Params]:
    """The cloned policy: its description, and its averaged parameters."""
    context.run.result("bc")
    config = context.run.config
    policy = make_policy(config, context.scene)
    shape = jax.eval_shape(lambda: _blank_state(policy, config))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)
    with Checkpoints(context.run.folder / "bc" / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(blank)
    return policy, bc.policy_params(state)


def _blank_state(policy: AnyPolicy, config: Config) -> bc.BCState:
    observation = np.zeros((1, policy.observation_size), np.float32)
    if policy.eyes is not None:
        size = policy.eyes.size
        observation = Sight(images=np.zeros((1, policy.eyes.cameras, size, size, 3), np.uint8), vector=observation)
    data = bc.BCData(
        observation=observation,
        chunk=np.zeros((1, policy.horizon, policy.action_size), np.float32),
    )
    return bc.init_state(jax.random.PRNGKey(0), policy, config.bc, data)


def count_parameters(params: Params) -> int:
    """Numbers in a pytree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
