"""Calls of Linux that Python 3.11 has no function for. Each raises `OSError` saying which call failed, and why."""

import ctypes
import os
import platform
import struct

NEW_MOUNTS, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x00020000, 0x10000000, 0x20000000, 0x40000000
NEW_IPC, NEW_HOST_NAME = 0x08000000, 0x04000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_READ_ONLY = 1 | 2 | 4  # MOUNT_ATTR_RDONLY | NOSUID | NODEV
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_PIVOT_ROOT, _CAPSET = {"x86_64": (155, 126), "aarch64": (41, 91)}.get(platform.machine(), (-1, -1))
_MOUNT_SETATTR = 442  # everywhere, since Linux 5.12
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(what: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _checked("unshare", _libc.unshare(flags))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _checked(f"mount {target}", _libc.mount(*arguments))


def make_read_only(target: str, recursive: bool) -> None:
    """The mount (and those below it) read-only, without devices and without programs that raise rights."""
    attributes = struct.pack("=QQQQ", _READ_ONLY, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    result = _libc.syscall(
        _MOUNT_SETATTR, _AT_FDCWD, target.encode(), flags, attributes, ctypes.c_size_t(len(attributes))
    )
    _checked(f"mount_setattr {target}", result)


def unmount(target: str) -> None:
    _checked(f"umount {target}", _libc.umount2(target.encode(), _MNT_DETACH))


def pivot_root(new: str, old: str) -> None:
    _checked("pivot_root", _libc.syscall(_PIVOT_ROOT, new.encode(), old.encode()))


def prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(each) for each in (*arguments, 0, 0, 0, 0)[:4]]
    _checked("prctl", _libc.prctl(option, *padded))


def die_with_parent() -> None:
    prctl(_PR_SET_PDEATHSIG, 9)


def own_process_files() -> None:
    """Gives the files of /proc/self back to a process that has changed its user."""
    prctl(_PR_SET_DUMPABLE, 1)


def drop_capabilities() -> None:
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _checked("capset", _libc.syscall(_CAPSET, header, bytes(24)))
