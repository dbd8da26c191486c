"""`rlgen bench device`: what this package claims of an accelerator, measured in one command."""
