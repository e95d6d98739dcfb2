"""What specialists have learnt, as text that one model can be taught."""
