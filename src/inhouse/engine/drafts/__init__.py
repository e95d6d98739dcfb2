"""Speculative decoding: what may come next, verified several tokens at once."""
