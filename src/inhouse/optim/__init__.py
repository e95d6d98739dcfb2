"""From gradients to the next weights: optimizers and the schedule of their rates."""
