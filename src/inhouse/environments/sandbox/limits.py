"""What a program in the sandbox may use."""

from typing import NamedTuple

MIB = 1 << 20


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
