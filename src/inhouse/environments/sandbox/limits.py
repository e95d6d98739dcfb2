"""What a program in the sandbox may use."""

import resource
from typing import NamedTuple

MIB = 1 << 20
_OPEN_FILES = 64


class Limits(NamedTuple):
    """Of one program. It is one process with one thread, writes no files and has no network, whatever stands here.

    `seconds`: of computing (CPU time, whole seconds), after which the program is killed. `wall_seconds`: until it must
    have ended, by the clock; the wider of the two, so that a busy machine changes no verdict. `memory`: bytes of
    address space, Python's own (about 40 MiB) among them. `output`: bytes of what it prints.
    """

    seconds: int = 4
    wall_seconds: float = 20.0
    memory: int = 512 * MIB
    output: int = MIB


DEFAULT_LIMITS = Limits()


def check_limits(limits: Limits) -> Limits:
    """The limits, themselves. Raises `ValueError` where a program could do nothing within them."""
    least = Limits(1, 0.1, 64 * MIB, 1)
    for name, value, smallest in zip(Limits._fields, limits, least, strict=True):
        if value < smallest:
            raise ValueError(f"the sandbox's {name} is {value}; at least {smallest} is needed")
    return limits


def kernel_limits(limits: Limits) -> dict[str, int]:
    """What the kernel is told, by the names of `resource`."""
    return {
        "RLIMIT_CPU": limits.seconds, "RLIMIT_AS": limits.memory, "RLIMIT_FSIZE": limits.output,
        "RLIMIT_NOFILE": _OPEN_FILES, "RLIMIT_CORE": 0, "RLIMIT_MEMLOCK": 0,
    }  # fmt: skip


def check_kernel_limits(limits: Limits) -> None:
    """Raises `ValueError` where this process is itself held to less (`ulimit`): then no program would be started."""
    for name, most in kernel_limits(limits).items():
        allowed = resource.getrlimit(getattr(resource, name))[1]
        if allowed not in (resource.RLIM_INFINITY, max(allowed, most)):
            raise ValueError(
                f"the sandbox needs {name} of {most}, but this process may have {allowed} at most (ulimit -H): "
                "allow it more, or give the sandbox less"
            )
