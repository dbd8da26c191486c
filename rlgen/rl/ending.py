"""The end of PPO: at the target, once successes no longer get shorter or smoother, with a floor and a cap."""

from collections.abc import Sequence
from typing import Literal

from rlgen.configs.schema import PPOConfig
from rlgen.data.metrics.score import ScoreSummary

# Part of the mean length or jerk by which successes must fall to count as better. The standard error of a mean length
# over 50 episodes is 2 to 3 % of it.
GAIN = 0.03
End = Literal["target", "plateau", "iterations"]


def why_ended(config: PPOConfig, tests: Sequence[ScoreSummary], iteration: int) -> End | None:
    """Returns why training ends here, or None if it goes on.

    Args:
      config: of the training.
      tests: evaluations so far.
      iteration: iterations done, after which the last of `tests` was made, or none.
    """
    if iteration and iteration % config.iterations == 0:
        # The end of a round; only what misses a target gets another one.
        missed = config.target is not None and bool(tests) and not reached(config, tests[-1])
        if iteration >= config.rounds * config.iterations or not missed:
            return "iterations"
        return None
    if not tests or not reached(config, tests[-1]) or iteration < config.min_iterations:
        return None
    if config.plateau == 0:
        return "target"
    return "plateau" if since_better([test for test in tests if reached(config, test)]) >= config.plateau else None


def reached(config: PPOConfig, test: ScoreSummary) -> bool:
    """Returns whether an evaluation reaches the target; none does where there is no target."""
    return config.target is not None and test.rate.rate >= config.target and test.rate.low >= config.target_low


def since_better(tests: Sequence[ScoreSummary]) -> int:
    """Returns how many evaluations came after the last one with shorter or smoother successes.

    The mark to beat moves only where it is beaten by `GAIN`, so that a slow fall adds up.
    """
    mark: dict[str, float] = {}
    last = 0
    for index, test in enumerate(tests):
        for name in ("length", "mean_squared_jerk"):
            value = getattr(test, name)
            if value is not None and value <= (1 - GAIN) * mark.get(name, float("inf")):
                mark[name], last = value, index
    return max(len(tests) - 1 - last, 0)
