"""Fine-tuning: configuration, optimizer, loop, memory plan."""
