"""`python -m rlgen`."""

from rlgen.cli.main import main

if __name__ == "__main__":
    main()
