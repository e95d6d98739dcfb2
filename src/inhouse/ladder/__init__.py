"""What a change is worth: the same recipe and the changed one trained at several sizes, and what the losses say."""
