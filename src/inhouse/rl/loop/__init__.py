"""The loop of a climb: batches that are sampled, steps that are watched, and what is said of them."""
