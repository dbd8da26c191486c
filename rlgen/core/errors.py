"""The error for mistakes of users, which users can correct."""


class UserError(ValueError):
    """Bad input. The message is one line: the value, what was expected, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
