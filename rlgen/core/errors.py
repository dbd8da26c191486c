"""The error for mistakes of users, which users can correct."""


class UserError(ValueError):
    """Bad input. The message is one line: the value, what was expected, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
