"""The filter, followed instruction by instruction on both machines: what passes, what fails, and how."""

import errno
import fcntl as F
import os
import socket
import struct

import pytest

from inhouse.environments.sandbox.seccomp import filter_instructions

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, UNKNOWN, READ_ONLY = 0x7FFF0000, 0x80000000, 0x50000 | errno.ENOSYS, 0x50000 | errno.EROFS


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would do with a call."""
    data = struct.pack("<IIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *(*arguments, *[0] * 6)[:6])
    program, place, value = filter_instructions(machine), 0, 0
    while True:
        code, if_true, if_false, operand = program[place]
        assert max(if_true, if_false) < 256
        place += 1
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:
            value &= operand
        elif code == 0x15:
            place += if_true if value == operand else if_false
        else:
            assert code == 0x06
            return operand


@pytest.mark.parametrize(
    ("machine", "calls"),
    [
        ("x86_64", {"read": 0, "mmap": 9, "exit_group": 231, "getrandom": 318, "restart_syscall": 219}),
        ("aarch64", {"read": 63, "mmap": 222, "exit_group": 94, "getrandom": 278, "restart_syscall": 128}),
    ],
)
def test_what_a_program_needs_passes(machine, calls):
    assert {name: verdict(machine, number) for name, number in calls.items()} == dict.fromkeys(calls, ALLOW)


@pytest.mark.parametrize(
    ("machine", "calls"),
    [
        ("x86_64", {"socket": 41, "connect": 42, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62,
                    "ptrace": 101, "prctl": 157, "mount": 165, "unlink": 87, "unlinkat": 263, "unshare": 272,
                    "setns": 308, "memfd_create": 319, "execveat": 322, "clone3": 435, "openat2": 437, "tgkill": 234,
                    "shmget": 29, "bpf": 321, "io_uring_setup": 425, "prlimit64": 302, "ioctl": 16, "creat": 85}),
        ("aarch64", {"socket": 198, "clone": 220, "execve": 221, "kill": 129, "ptrace": 117, "mount": 40, "unshare": 97,
                     "unlinkat": 35, "memfd_create": 279, "clone3": 435, "openat2": 437, "prctl": 167, "ioctl": 29}),
    ],
)  # fmt: skip
def test_all_else_is_unknown(machine, calls):
    assert {name: verdict(machine, number) for name, number in calls.items()} == dict.fromkeys(calls, UNKNOWN)


@pytest.mark.parametrize(("machine", "openat"), [("x86_64", 257), ("aarch64", 56)])
def test_files_are_opened_to_read_alone(machine, openat):
    assert verdict(machine, openat, 0, 0, os.O_RDONLY | os.O_CLOEXEC) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_TMPFILE | os.O_RDWR):
        assert verdict(machine, openat, 0, 0, flags | os.O_CLOEXEC) == READ_ONLY
    assert verdict("x86_64", 2, 0, os.O_RDONLY) == ALLOW
    assert verdict("x86_64", 2, 0, os.O_RDWR) == READ_ONLY


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_of_a_sockets_ways_one_can_be_set(machine):
    ioctl = {"x86_64": 16, "aarch64": 29}[machine]
    assert verdict(machine, ioctl, 3, 0x5421) == ALLOW
    assert verdict(machine, ioctl, 0, 0x5412) == UNKNOWN  # TIOCSTI: as if somebody typed


@pytest.mark.parametrize(("machine", "fcntl"), [("x86_64", 72), ("aarch64", 25)])
def test_a_descriptor_sends_no_signals_and_locks_nothing(machine, fcntl):
    """F_SETOWN and F_SETSIG make the kernel send any signal, SIGKILL too, to a process of the same user."""
    passing = {command for command in (*range(20), *range(1020, 1045)) if verdict(machine, fcntl, 3, command) == ALLOW}
    assert passing == {F.F_DUPFD, F.F_GETFD, F.F_SETFD, F.F_GETFL, F.F_SETFL, F.F_DUPFD_CLOEXEC}


@pytest.mark.parametrize(("machine", "socketpair", "sendto"), [("x86_64", 53, 44), ("aarch64", 199, 206)])
def test_what_is_sent_goes_to_the_other_end_alone(machine, socketpair, sendto):
    assert verdict(machine, sendto, 3, 0, 9, 0, 0, 0) == ALLOW
    assert verdict(machine, sendto, 3, 0, 9, 0, 0x7000, 110) == UNKNOWN  # of datagrams each may have an address
    assert verdict(machine, socketpair, socket.AF_UNIX, socket.SOCK_STREAM) == ALLOW
    assert verdict(machine, socketpair, socket.AF_TIPC, socket.SOCK_STREAM) == UNKNOWN


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_calls_of_another_machine_are_the_end(machine):
    assert verdict(machine, 0, architecture=0x40000003) == KILL  # i386's, which a 64-bit process can make too
    assert verdict(machine, 1 << 30) == UNKNOWN  # x32's numbers
