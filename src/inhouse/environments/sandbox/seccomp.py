"""The system calls that a confined program may make: those that read, compute and print; no others.

Not among them: files to be written, new processes and threads, other programs, sockets to anywhere, signals to anybody,
tracing, mounts, namespaces, memory that no limit counts. A call that is not there fails as on a kernel that does not
know it (ENOSYS), so that a C library falls back to an older one. The filter is classic BPF (Linux, Documentation/
userspace-api/seccomp_filter.rst), installed for good: whoever runs behind it cannot take it off.
"""

import ctypes
import errno
import os
import platform
import struct

from inhouse.environments.sandbox.system_calls import prctl

# name: (number on x86_64, number on aarch64, which lacks the older calls)
_CALLS = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "newfstatat": (262, 79), "statx": (332, 291), "poll": (7, None), "ppoll": (271, 73), "select": (23, None),
    "pselect6": (270, 72), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "mremap": (25, 216), "madvise": (28, 233), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65), "writev": (20, 66),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "pipe": (22, None), "pipe2": (293, 59),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "nanosleep": (35, 101), "clock_nanosleep": (230, 115),
    "getitimer": (36, 102), "setitimer": (38, 103), "alarm": (37, None), "pause": (34, None), "getpid": (39, 172),
    "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "getgroups": (115, 158), "recvfrom": (45, 207), "shutdown": (48, 210),
    "getsockopt": (55, 209), "getsockname": (51, 204), "getpeername": (52, 205), "exit": (60, 93),
    "exit_group": (231, 94), "uname": (63, 160), "fsync": (74, 82), "getdents64": (217, 61), "getcwd": (79, 17),
    "chdir": (80, 49), "fchdir": (81, 50), "readlink": (89, None), "readlinkat": (267, 78), "umask": (95, 166),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "getrusage": (98, 165), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "futex": (202, 98), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None),
    "epoll_pwait": (281, 22), "getrandom": (318, 278),
    "close_range": (436, 436), "restart_syscall": (219, 128),
}  # fmt: skip
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH

_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_JMP|JEQ|K, BPF_RET|K
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_UNKNOWN, _READ_ONLY = 0x00050000 | errno.ENOSYS, 0x00050000 | errno.EROFS
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_WHOLE = 0xFFFFFFFF
_FIONBIO = 0x5421  # a socket that does not block, as asyncio wants its own
_UNIX = 1
# of fcntl. Those below 4 copy a descriptor and tell its flags; others, that are not here, say which process is to be
# sent a signal (F_SETOWN, F_SETSIG), lock files and make pipes larger
_SET_FLAGS, _COPY = 4, 1030
# and which argument decides, (under which mask it must be what), …, and how the call fails where it is not
_SOME = {
    "open": (2, None, 1, ((_TO_WRITE, 0),), _READ_ONLY),
    "openat": (257, 56, 2, ((_TO_WRITE, 0),), _READ_ONLY),
    "ioctl": (16, 29, 1, ((_WHOLE, _FIONBIO),), _UNKNOWN),
    "fcntl": (72, 25, 1, ((_WHOLE - 3, 0), (_WHOLE, _SET_FLAGS), (_WHOLE, _COPY)), _UNKNOWN),
    "socketpair": (53, 199, 0, ((_WHOLE, _UNIX),), _UNKNOWN),
    "sendto": (44, 206, 5, ((_WHOLE, 0),), _UNKNOWN),  # to the other end alone: no address, which may be anybody's
}

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def is_known_machine() -> bool:
    """Whether the numbers of this machine's system calls stand in the tables."""
    return platform.machine() in _MACHINES


def install_filter() -> None:
    """From here on this process makes only the calls of the tables, and opens files to read alone."""
    instructions = filter_instructions(platform.machine())
    packed = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in instructions))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(instructions), ctypes.addressof(packed)))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def filter_instructions(machine: str) -> list[_Instruction]:
    """The filter as instructions of classic BPF: some by an argument, a test a call, the refusal, the permission."""
    column, architecture = _MACHINES[machine]
    allowed = [pair[column] for pair in _CALLS.values() if pair[column] is not None]
    instructions: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER),
    ]  # fmt: skip
    for on_x86, on_arm, argument, choices, failure in _SOME.values():
        number = (on_x86, on_arm)[column]
        if number is not None:
            place = _ARGUMENTS + 8 * argument  # the low half, on little-endian machines
            instructions += [
                (_EQUAL, 0, 4 * len(choices) + 1, number),
                *(each for mask, wanted in choices for each in (
                    (_LOAD, 0, 0, place), (_AND, 0, 0, mask), (_EQUAL, 0, 1, wanted), (_RETURN, 0, 0, _ALLOW))),
                (_RETURN, 0, 0, failure),
            ]  # fmt: skip
    instructions += [
        (_EQUAL, len(allowed) - place, 0, number) for place, number in enumerate(allowed) if number is not None
    ]
    return [*instructions, (_RETURN, 0, 0, _UNKNOWN), (_RETURN, 0, 0, _ALLOW)]
