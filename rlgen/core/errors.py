"""The error for mistakes of users, which users can correct."""


class UserError(ValueError):
    """Bad input. The message is one line: the value, what was expected, and what to do.

    The command line prints it without a traceback and exits with code 2.

    Attributes:
      reason: the message without the advice, for those to whom other commands are of use.
    """

    def __init__(self, reason: str, advice: str | None = None):
        """Makes the error.

        Args:
          reason: the value, and what was expected.
          advice: what to do, where it is a command of its own.
        """
        super().__init__(reason if advice is None else f"{reason}; {advice}")
        self.reason = reason


def missing_extra(name: str, extra: str, package: str, otherwise: str) -> UserError:
    """Returns the error for a package that is not installed.

    Args:
      name: of what is missing.
      extra: of rlgen that has it; rlgen itself is not on PyPI.
      package: its name there.
      otherwise: what does without it.
    """
    return UserError(f"{name} is not installed; `uv sync --extra {extra}` or `pip install {package}`, or {otherwise}")


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
