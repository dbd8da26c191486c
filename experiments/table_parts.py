"""Parts that several tables share: the folder of results, rates and ranges as text."""

from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def rate(value: dict) -> str:
    """Returns a success rate with its interval, such as `45/50 (79-96 %)`."""
    return f"{value['successes']}/{value['trials']} ({100 * value['low']:.0f}-{100 * value['high']:.0f} %)"


def spread(value: dict) -> str:
    """Returns the range of a measurement, such as `1108-1473`."""
    return f"{value['low']:.0f}-{value['high']:.0f}"
