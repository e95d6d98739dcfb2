"""Suites of tasks: read, answered by a model, summed up, written down."""
