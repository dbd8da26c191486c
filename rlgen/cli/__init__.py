"""The command line: `main` finds the command, each other module holds the commands of one noun."""
