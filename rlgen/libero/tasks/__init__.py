"""The benchmark's 130 tasks: names, prompts, task files, stored initial states."""
