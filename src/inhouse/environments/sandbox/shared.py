"""The one sandbox of a process, for all environments in it that run programs."""

from functools import cache

from inhouse.environments.sandbox.limits import Limits
from inhouse.environments.sandbox.sandbox import Sandbox

LIMITS = Limits(seconds=2)  # less computing than for a grader alone: a climb runs thousands
VERDICT_SECONDS = 2 * LIMITS.wall_seconds + 5.0  # two programs, one after another at worst


@cache
def shared_sandbox() -> Sandbox:
    """Its server starts with the first program, and ends with this process."""
    return Sandbox(LIMITS)
