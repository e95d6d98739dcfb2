"""The verbs of `gateway`, a file a family."""
