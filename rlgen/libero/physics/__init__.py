"""The compiled control step: controller, physics, goal."""
