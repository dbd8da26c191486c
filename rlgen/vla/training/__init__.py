"""Training: settings, optimizer, loop, the driver of both commands, memory plan."""
