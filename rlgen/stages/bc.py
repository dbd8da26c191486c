"""`rlgen bc`: behaviour cloning of the diffusion policy on the demonstrations."""

from typing import Any

import jax
import numpy as np

from rlgen.config import Config
from rlgen.data.hdf5 import read_demos
from rlgen.data.noops import idle_mask
from rlgen.errors import UserError
from rlgen.libero.observe import Observer, observation_size
from rlgen.libero.scene import Scene
from rlgen.policies.diffusion_policy import DiffusionPolicy, Params
from rlgen.rl import bc
from rlgen.stages import demos
from rlgen.stages.context import Context, Work
from rlgen.train.checkpoint import Checkpoints
from rlgen.train.metrics import Metrics
from rlgen.types import Episode

# Steps in one call of the compiled function, and calls between two checkpoints.
CALL = 100
CALLS_A_CHECKPOINT = 10


def make_policy(config: Config, scene: Scene) -> DiffusionPolicy:
    """The policy that the configuration describes."""
    return DiffusionPolicy(
        observation_size=observation_size(scene),
        horizon=config.policy.horizon,
        dim=config.policy.dim,
        mults=config.policy.mults,
        train_steps=config.policy.train_steps,
        steps=config.policy.steps,
        eta_train=config.policy.eta_train,
        eta_act=config.policy.eta_act,
        sigma_min_sample=config.policy.sigma_min_sample,
        sigma_min_logprob=config.policy.sigma_min_logprob,
    )


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


def demonstration_data(context: Context, policy: DiffusionPolicy) -> bc.BCData:
    """Chunks of brisk demonstrations, without their pauses, with what was seen before them."""
    observer = Observer(context.scene)
    seen, actions = [], []
    for episode in _brisk(read_demonstrations(context))[: context.run.config.bc.episodes]:
        path = observer(episode.states)
        busy = ~idle_mask(episode.actions, path.robot.gripper)
        # The wait for the object to fall ends an episode, and is what to do after letting go.
        busy[-policy.horizon :] = True
        seen.append(path.vector[:-1][busy])
        actions.append(episode.actions[busy])
    return bc.chunk_data(seen, actions, policy.horizon)


def _brisk(episodes: list[Episode]) -> list[Episode]:
    """All but the longest quarter, in their order."""
    limit = np.quantile([len(episode) for episode in episodes], 0.75)
    return [episode for episode in episodes if len(episode) <= limit]


def run(context: Context, work: Work) -> dict[str, Any]:
    """Trains `bc.steps` steps, with a checkpoint every thousand."""
    config = context.run.config
    policy = make_policy(config, context.scene)
    data = demonstration_data(context, policy)
    start = jax.jit(lambda key: bc.init_state(key, policy, config.bc, data))
    state = start(jax.random.PRNGKey(context.seed("bc")))
    with Checkpoints(work.folder / "checkpoints") as checkpoints:
        if checkpoints.latest() is not None:
            state, _ = checkpoints.restore(state)
        step = int(state.step)
        metrics = Metrics(work.folder / "metrics.jsonl", keep=step)
        work.progress.total = config.bc.steps
        work.progress.update(advance=step)
        work.progress.say("compiling the training step (about 15 s)")
        loss = float("nan")
        while step < config.bc.steps:
            count = min(CALL, config.bc.steps - step)
            state, values = bc.train_steps(policy, config.bc, state, data, count)
            step, loss = int(state.step), float(values["loss"])
            metrics.write(step, loss=loss, grad_norm=float(values["grad_norm"]))
            if not np.isfinite(loss):
                raise UserError(f"the BC loss is {loss} at step {step}; lower --bc.learning-rate")
            work.progress.update(advance=count, note=f"loss {loss:.4f}")
            if step % (CALL * CALLS_A_CHECKPOINT) == 0 or step == config.bc.steps:
                checkpoints.save(step, state, {"stage": "bc", "task": context.scene.task.id})
                work.clock.save()
    return {"steps": step, "parameters": count_parameters(state.net), "chunks": len(data.chunk)}


def load_policy(context: Context) -> tuple[DiffusionPolicy, Params]:
    """The cloned policy: its description, and its averaged parameters."""
    context.run.result("bc")
    config = context.run.config
    policy = make_policy(config, context.scene)
    shape = jax.eval_shape(lambda: _blank_state(policy, config))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shape)
    with Checkpoints(context.run.folder / "bc" / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(blank)
    return policy, bc.policy_params(state)


def _blank_state(policy: DiffusionPolicy, config: Config) -> bc.BCState:
    data = bc.BCData(
        observation=np.zeros((1, policy.observation_size), np.float32),
        chunk=np.zeros((1, policy.horizon, policy.action_size), np.float32),
    )
    return bc.init_state(jax.random.PRNGKey(0), policy, config.bc, data)


def count_parameters(params: Params) -> int:
    """Numbers in a pytree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
