"""Episodes: an actor in a pool, from given initial states. The evaluator, the collector and the demonstrator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

from rlgen.core.types import Episode, Observation
from rlgen.libero.envs.environment import Physics
from rlgen.libero.envs.vector_env import VectorEnv
from rlgen.libero.scenes.scene import Scene


class Actor(Protocol):
    """Turns observations into action chunks."""

    @property
    def chunk(self) -> int:
        """H, control steps between two looks."""

    def reset(self, seeds: Int[np.ndarray, " N"]) -> None:
        """New episodes start in all N rows; what is drawn at random depends on the row's seed alone."""

    def __call__(self, observation: Observation) -> Float[np.ndarray, "N H 7"]:
        """The next chunk of every row."""


@dataclass(frozen=True)
class Trial:
    """One episode to run: which initial state, and the actor's seed."""

    index: int
    seed: int


def make_trials(count: int, states: int, *, seed: int, offset: int = 0) -> list[Trial]:
    """`count` trials that go through the initial states in order, each with its own seed."""
    numbers = range(offset, offset + count)
    seeds = [int(np.random.SeedSequence((seed, number)).generate_state(1)[0] >> 1) for number in numbers]
    return [Trial(number % states, episode) for number, episode in zip(numbers, seeds, strict=True)]


def run_episodes(
    scene: Scene,
    actor: Actor,
    trials: Sequence[Trial],
    *,
    split: str,
    source: str,
    width: int = 25,
    threads: int = 2,
    physics: Physics = "exact",
    on_chunk: Callable[[int], None] | None = None,
) -> Iterator[list[Episode]]:
    """Runs each trial once, `width` environments at a time, and yields the episodes wave by wave, in order.

    An episode's actions depend on its trial alone as far as the actor's arithmetic does not depend on the
    batch, which is why the last wave is filled up with repeated trials. `on_chunk` hears after every chunk
    how many episodes of the wave are still going.
    """
    pool = VectorEnv([scene] * width, threads=threads, physics=physics)
    states = scene.initial_states(split)
    try:
        for start in range(0, len(trials), width):
            wave = list(trials[start : start + width])
            filled = wave + [wave[-1]] * (width - len(wave))
            episodes = _run_wave(pool, actor, filled, states, split, source, on_chunk)
            yield episodes[: len(wave)]
    finally:
        pool.close()


def _run_wave(
    pool: VectorEnv,
    actor: Actor,
    trials: list[Trial],
    states: np.ndarray,
    split: str,
    source: str,
    on_chunk: Callable[[int], None] | None,
) -> list[Episode]:
    initial = states[[trial.index for trial in trials]]
    observation = pool.reset(initial)
    actor.reset(np.array([trial.seed for trial in trials]))
    paths = [[physics] for physics in observation.physics]
    actions: list[list[np.ndarray]] = [[] for _ in trials]
    active = np.ones(pool.num_envs, bool)
    success = np.zeros(pool.num_envs, bool)
    while active.any():
        # Executed as recorded: a replay of the float32 actions takes the same path.
        chunks = np.asarray(actor(observation), np.float32)
        result = pool.step(chunks, active=active)
        for row in np.flatnonzero(active):
            paths[row] += list(result.states[row, : result.control_steps[row]])
            actions[row] += list(chunks[row, : result.control_steps[row]])
        success |= result.terminated
        active &= ~(result.terminated | result.truncated)
        observation = result.observation
        if on_chunk is not None:
            on_chunk(int(active.sum()))
    task = pool.scenes[0].task
    return [
        Episode(
            task=task.id,
            prompt=task.prompt,
            source=source,
            initial_index=trial.index,
            split=split,
            seed=trial.seed,
            initial_state=initial[row],
            states=np.stack(paths[row]),
            actions=np.stack(actions[row]),
            rewards=np.r_[np.zeros(len(actions[row]) - 1), success[row]].astype(np.float32),
            success=bool(success[row]),
        )
        for row, trial in enumerate(trials)
    ]
