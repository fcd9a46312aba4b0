"""Training: state, steps, devices, the loop, checkpoints and metrics. It knows nothing of modules."""
