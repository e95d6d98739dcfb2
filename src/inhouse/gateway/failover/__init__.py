"""Whoever fails in the middle of a call, the client gets a whole answer or a clean error."""
