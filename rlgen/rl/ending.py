"""The end of PPO, and which of its policies is the expert.

It ends at the target, once successes no longer get shorter or smoother, with a floor and a cap. The expert is the last
policy that was seen at the target: what comes after may be worse, or an evaluation's bad luck.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from rlgen.configs.schema import PPOConfig
from rlgen.data.metrics.score import ScoreSummary

# Part of the mean length or jerk by which successes must fall to count as better. The standard error of a mean length
# over 50 episodes is 2 to 3 % of it.
GAIN = 0.03
End = Literal["target", "plateau", "iterations"]


def why_ended(config: PPOConfig, tests: Mapping[int, ScoreSummary], iteration: int) -> End | None:
    """Returns why training ends here, or None if it goes on.

    Args:
      config: of the training.
      tests: evaluations so far, by the iteration after which they were made, in their order.
      iteration: iterations done.
    """
    if iteration and iteration % config.iterations == 0:
        # The end of a round; only what misses a target gets another one.
        missed = config.target is not None and expert_iteration(config, tests) is None
        if iteration >= config.rounds * config.iterations or not missed:
            return "iterations"
        return None
    if iteration not in tests or expert_iteration(config, tests) != iteration:
        return None
    if config.plateau == 0:
        return "target"
    at_target = [test for test in tests.values() if reached(config, test)]
    return "plateau" if since_better(at_target) >= config.plateau else None


def expert_iteration(config: PPOConfig, tests: Mapping[int, ScoreSummary]) -> int | None:
    """Returns the iteration, not before `min_iterations`, of the last evaluation at the target; None without any."""
    found = [number for number, test in tests.items() if number >= config.min_iterations and reached(config, test)]
    return max(found, default=None)


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
