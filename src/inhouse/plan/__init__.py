"""What a run would take before it is started: here the training step itself, rehearsed without its machines."""
