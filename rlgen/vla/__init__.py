"""The flow VLA: model, inputs, fine-tuning."""
