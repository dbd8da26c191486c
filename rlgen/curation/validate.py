"""Episodes as they are exported: their actions replayed in `exact` physics, without what the community drops."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from rlgen.core.actions import binarize_gripper
from rlgen.core.errors import UserError
from rlgen.core.types import Episode
from rlgen.curation.sources import EpisodeFile
from rlgen.data.episode import episode_digest
from rlgen.data.metrics.smoothness import noop_mask
from rlgen.libero.envs.environment import DivergedError
from rlgen.libero.envs.replay import map_ahead, replay
from rlgen.libero.scenes.scene import Scene

Replay = Literal["drop", "label", "off"]


@dataclass(frozen=True)
class Validation:
    """What became of an episode.

    Attributes:
      digest: SHA-256 of the episode as it was recorded.
      steps: actions that are exported.
      noops: actions that were dropped.
      fault: why it is not exported, or what its label says; empty if nothing is wrong.
      usable: whether it could be exported with a label.
      replayed: whether the replay was run and ended in the goal.
      same: whether the replay went through the recorded states, to the last bit.
    """

    digest: str
    steps: int
    noops: int
    fault: str = ""
    usable: bool = True
    replayed: bool = False
    same: bool = False


@dataclass(frozen=True)
class Candidate:
    """An episode: where it lies, where it began, and what became of it.

    Attributes:
      file: in which it lies.
      name: in that file.
      split, initial_index, seed, initial_state: as of `Episode`.
      verdict: what became of it.
    """

    file: EpisodeFile
    name: str
    split: str
    initial_index: int
    seed: int
    initial_state: Float[np.ndarray, " D"]
    verdict: Validation


@dataclass(frozen=True)
class Validator:
    """How episodes are made ready.

    Attributes:
      mode: `drop` leaves out what does not reach the goal again, `label` keeps it and says so, `off` does not replay.
      keep_noops: leave no-ops in.
      threads: that replay.
    """

    mode: Replay = "drop"
    keep_noops: bool = False
    threads: int = 1

    def candidates(
        self,
        file: EpisodeFile,
        scene: Scene,
        journal: Path,
        progress: Callable[[int], None] = lambda count: None,
    ) -> list[Candidate]:
        """What becomes of each episode of a file; what `journal` knows already is not replayed again."""
        known = self._read(journal)
        found: list[Candidate] = []

        def judge(pair: tuple[str, Episode]) -> Candidate:
            name, episode = pair
            digest = episode_digest(episode)
            verdict = known.get(digest) or self._judge(scene, episode, digest)
            begun = (episode.split, episode.initial_index, episode.seed, episode.initial_state)
            return Candidate(file, name, *begun, verdict)

        for candidate in map_ahead(judge, file.read(), self.threads):
            if candidate.verdict.digest not in known:
                self._note(journal, candidate.verdict)
            found.append(candidate)
            progress(len(found))
        return found

    def prepared(self, scene: Scene, episode: Episode, verdict: Validation) -> Episode:
        """The episode as it is exported: single-precision actions, and the states that they lead through."""
        actions = self._actions(episode)
        episode = replace(episode, actions=actions)
        if self.mode == "off" or verdict.same:
            return episode
        states, rewards = replay(scene, episode.initial_state, actions)
        return replace(episode, states=states, rewards=rewards.astype(np.float32))

    def _actions(self, episode: Episode) -> np.ndarray:
        """Single precision, the gripper exactly -1 or 1, no-ops left out."""
        actions = binarize_gripper(np.asarray(episode.actions, np.float32))
        if self.keep_noops or self.mode == "off":
            return actions
        return actions[~noop_mask(actions)]

    def _judge(self, scene: Scene, episode: Episode, digest: str) -> Validation:
        actions = self._actions(episode)
        verdict = Validation(digest, len(actions), len(episode) - len(actions))
        if not episode.success:
            return replace(verdict, fault="the goal was not reached when it was recorded", usable=False)
        if not episode.has_physics:
            return replace(verdict, fault="no physics states to draw it from", usable=False)
        if len(actions) == 0:
            return replace(verdict, fault="nothing but no-ops", usable=False)
        if self.mode == "off":
            return verdict
        try:
            states, rewards = replay(scene, episode.initial_state, actions)
        except DivergedError as error:
            return replace(verdict, fault=str(error), usable=False)
        same = states.shape == episode.states.shape and np.array_equal(states, episode.states)
        if rewards[-1] > 0:
            return replace(verdict, replayed=True, same=same)
        fault = "the goal is not reached when it is replayed"
        return replace(verdict, fault=fault + (" without its no-ops" if verdict.noops else ""), same=same)

    def exported(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Those that a dataset holds."""
        return [c for c in candidates if not c.verdict.fault or (self.mode == "label" and c.verdict.usable)]

    def _read(self, journal: Path) -> dict[str, Validation]:
        """Results of an earlier, interrupted export of the same kind; a line that was cut off is passed over."""
        if not journal.is_file():
            return {}
        lines = journal.read_text().splitlines()
        if not lines or lines[0] != self._head():
            journal.unlink()
            return {}
        return {verdict.digest: verdict for verdict in _verdicts(lines[1:])}

    def _note(self, journal: Path, verdict: Validation) -> None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        fresh = not journal.is_file()
        with open(journal, "a") as file:
            file.write((self._head() + "\n" if fresh else "") + json.dumps(asdict(verdict)) + "\n")

    def _head(self) -> str:
        import mujoco

        return json.dumps({"mode": self.mode, "keep_noops": self.keep_noops, "mujoco": mujoco.__version__})


def _verdicts(lines: Sequence[str]) -> Iterator[Validation]:
    for line in lines:
        try:
            yield Validation(**json.loads(line))
        except (ValueError, TypeError):
            continue


def none_left(candidates: Sequence[Candidate], path: str) -> UserError:
    """What to say where no episode is left to export."""
    faults = [candidate.verdict.fault for candidate in candidates]
    commonest = max(set(faults), key=faults.count)
    advice = "; --keep-noops leaves them in" if "no-ops" in commonest else ""
    return UserError(f"{path}: none of {len(faults)} episodes can be exported: {commonest}{advice}")


def content_hash(parts: Sequence[str]) -> str:
    """SHA-256 of several texts, for a plan's fingerprint."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
