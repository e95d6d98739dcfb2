"""What was computed, and how it is found again."""
