"""The board: battles between models, what they say about strength, and whether the votes can be trusted."""
