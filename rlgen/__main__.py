"""The process of a command: `rlgen`, and `python -m rlgen`."""

import os
import sys


def main() -> None:
    """Runs the command that the process's words name."""
    from rlgen.cli.interruption import run_interruptible

    run_interruptible(_command)


def _command() -> None:
    # Signals are handled before this takes its second.
    from rlgen.cli.main import main as command

    command()


if __name__ == "__main__":
    # The working directory may be a dataset of others: no module in it is taken for one of a library.
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
        del sys.path[0]
    main()
