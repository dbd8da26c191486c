"""The process of a command: `rlgen`, and `python -m rlgen`."""

from rlgen.cli.interruption import run_interruptible


def main() -> None:
    """Runs the command that the process's words name."""
    run_interruptible(_command)


def _command() -> None:
    # Signals are handled before this takes its second.
    from rlgen.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
