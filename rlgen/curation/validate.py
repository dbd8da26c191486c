"""Validation of recorded episodes before their export, by replaying their actions in `exact` physics.

What is replayed is what is exported: actions in float32, without no-ops.
"""

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
from rlgen.core.files import parse_json
from rlgen.core.types import Episode, FixturePoses
from rlgen.curation.sources import EpisodeFile
from rlgen.data.episode import episode_digest
from rlgen.data.metrics.smoothness import noop_mask
from rlgen.libero.envs.environment import DivergedError
from rlgen.libero.envs.replay import map_ahead, replay
from rlgen.libero.scenes.scene import Scene

ReplayMode = Literal["drop", "label", "off"]


@dataclass(frozen=True)
class Validation:
    """The result of validating one episode.

    Attributes:
      digest: SHA-256 of the episode as it was recorded.
      steps: number of actions that are exported.
      noops: number of actions that are dropped.
      problem: reason why the episode is not exported, or its label if it is; empty if it is valid. Cards count them.
      usable: whether the episode could be exported with a label.
      replayed: whether it was replayed and reached the goal.
      same_states: whether the replay gave exactly the recorded states.
    """

    digest: str
    steps: int
    noops: int
    problem: str = ""
    usable: bool = True
    replayed: bool = False
    same_states: bool = False


@dataclass(frozen=True)
class Candidate:
    """A recorded episode with its validation, without its states and actions.

    Attributes:
      file: in which it is stored.
      name: in that file.
      split, initial_index, seed, initial_state, fixtures: as of `Episode`.
      validation: its result.
    """

    file: EpisodeFile
    name: str
    split: str
    initial_index: int
    seed: int
    initial_state: Float[np.ndarray, " D"]
    fixtures: FixturePoses | None
    validation: Validation


@dataclass(frozen=True)
class Validator:
    """Validation of episodes, and their preparation for export.

    Attributes:
      mode: for episodes whose replay does not reach the goal: `drop` leaves them out, `label` exports them and lists
        them on the card. `off` does not replay.
      keep_noops: export no-ops as well.
      threads: number of threads that replay.
    """

    mode: ReplayMode = "drop"
    keep_noops: bool = False
    threads: int = 1

    def validate(
        self,
        file: EpisodeFile,
        scene: Scene,
        journal: Path,
        on_progress: Callable[[int], None] = lambda count: None,
    ) -> list[Candidate]:
        """Validates the episodes of a file.

        Args:
          file: of the episodes.
          scene: of their task.
          journal: file to which each result is appended; an interrupted export resumes from it, without replaying
            again what it lists.
          on_progress: called with the number of validated episodes.
        """
        known = self._read_journal(journal)
        candidates: list[Candidate] = []

        def validated(pair: tuple[str, Episode]) -> Candidate:
            name, episode = pair
            digest = episode_digest(episode)
            validation = known.get(digest) or self._validate(scene, episode, digest)
            start = (episode.split, episode.initial_index, episode.seed, episode.initial_state, episode.fixtures)
            return Candidate(file, name, *start, validation)

        for candidate in map_ahead(validated, file.read(), self.threads):
            if candidate.validation.digest not in known:
                self._append(journal, candidate.validation)
            candidates.append(candidate)
            on_progress(len(candidates))
        return candidates

    def select(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Returns the candidates that are exported."""
        label = self.mode == "label"
        return [c for c in candidates if not c.validation.problem or (label and c.validation.usable)]

    def prepare(self, scene: Scene, episode: Episode, validation: Validation) -> Episode:
        """Returns an episode as it is exported: actions in float32, and the states that they lead to.

        Args:
          scene: of the episode's task.
          episode: as it was recorded.
          validation: of the episode.
        """
        actions = self._exported_actions(episode)
        episode = replace(episode, actions=actions)
        if self.mode == "off" or validation.same_states:
            return episode
        states, rewards = replay(scene.placed(episode.fixtures), episode.initial_state, actions)
        return replace(episode, states=states, rewards=rewards.astype(np.float32))

    def _validate(self, scene: Scene, episode: Episode, digest: str) -> Validation:
        actions = self._exported_actions(episode)
        validation = Validation(digest, len(actions), len(episode) - len(actions))
        if not episode.success:
            return replace(validation, problem="the goal was not reached when it was recorded", usable=False)
        if not episode.has_physics:
            return replace(validation, problem="no physics states to draw it from", usable=False)
        if len(actions) == 0:
            return replace(validation, problem="nothing but no-ops", usable=False)
        if self.mode == "off":
            return validation
        try:
            states, rewards = replay(scene.placed(episode.fixtures), episode.initial_state, actions)
        except DivergedError as error:
            return replace(validation, problem=str(error), usable=False)
        same_states = states.shape == episode.states.shape and np.array_equal(states, episode.states)
        if rewards[-1] > 0:
            return replace(validation, replayed=True, same_states=same_states)
        problem = "the goal is not reached when it is replayed"
        problem += " without its no-ops" if validation.noops else ""
        return replace(validation, problem=problem, same_states=same_states)

    def _exported_actions(self, episode: Episode) -> np.ndarray:
        """Returns the actions in float32, with the gripper exactly -1 or 1, and without no-ops."""
        actions = binarize_gripper(np.asarray(episode.actions, np.float32))
        if self.keep_noops or self.mode == "off":
            return actions
        return actions[~noop_mask(actions)]

    def _read_journal(self, journal: Path) -> dict[str, Validation]:
        """Returns the results of an interrupted export with the same options, by digest."""
        if not journal.is_file():
            return {}
        lines = journal.read_text().splitlines()
        if not lines or lines[0] != self._journal_header():
            journal.unlink()
            return {}
        return {validation.digest: validation for validation in _parsed(lines[1:])}

    def _append(self, journal: Path, validation: Validation) -> None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        header = "" if journal.is_file() else self._journal_header() + "\n"
        with open(journal, "a") as file:
            file.write(header + json.dumps(asdict(validation)) + "\n")

    def _journal_header(self) -> str:
        import mujoco

        return json.dumps({"mode": self.mode, "keep_noops": self.keep_noops, "mujoco": mujoco.__version__})


def _parsed(lines: Sequence[str]) -> Iterator[Validation]:
    """Yields the results of a journal's lines, without those that a kill cut off."""
    for line in lines:
        try:
            yield Validation(**parse_json(line))
        except (ValueError, TypeError):
            continue


def none_left(candidates: Sequence[Candidate], path: str) -> UserError:
    """Returns the error for the case that no episode can be exported."""
    problems = [candidate.validation.problem for candidate in candidates]
    most_common = max(set(problems), key=problems.count)
    advice = "collect or record others"
    if "no-ops" in most_common:
        advice += ", or leave them in with `rlgen data export ... --keep-noops`"
    elif any(candidate.validation.usable for candidate in candidates):
        advice += ", or keep these with `rlgen data export ... --replay label`"
    return UserError(f"{path}: none of {len(problems)} episodes can be exported: {most_common}; {advice}")


def content_hash(parts: Sequence[str]) -> str:
    """Returns the SHA-256 of several texts, for a plan's fingerprint."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
