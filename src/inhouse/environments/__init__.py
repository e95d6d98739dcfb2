"""Sources of problems with a verifier; training, evaluation and reinforcement learning share them. No torch."""
