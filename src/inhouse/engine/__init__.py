"""Generation: rollouts, evaluation and serving use this one engine."""
