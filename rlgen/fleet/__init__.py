"""Experts for many tasks by one command: the plan, the job of a task, the ledger, engines, the datasets, the page."""
