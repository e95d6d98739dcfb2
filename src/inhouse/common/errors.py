"""Errors that a run tells apart from its crashes."""


class Refusal(ValueError):
    """A run will not go on until a person has changed something: settings, files, what else runs.

    One sentence says what. It is no crash, however often it is met (`resilience.crash_loop`).
    """
