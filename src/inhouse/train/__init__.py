"""Training: from shards or conversations to weights, on one device or many."""
