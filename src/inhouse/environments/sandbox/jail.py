"""Walls of Linux namespaces: a root folder with nothing in it but what Python reads, and nobody else to be seen.

Two of them, one in the other. The server's: no network, its own processes, a read-only root of Python's standard
library and the system's shared libraries. Every program's: its own user and processes, in that root.
"""

import os
import sys
from pathlib import Path

from inhouse.environments.sandbox import system_calls as linux

NOBODY = 65534
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_PACKAGES = ("site-packages", "dist-packages")  # what a user installed is no part of Python


def confine_server() -> int:
    """Puts this process behind the server's walls, and its next child into a process namespace of its own.

    Returns a descriptor of /proc, from which `confine_program` writes its user map: /proc itself is left outside.
    Raises `OSError` where the kernel, or the container around us, allows no namespaces.
    """
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    others = linux.NEW_PROCESSES | linux.NEW_NETWORK | linux.NEW_IPC | linux.NEW_HOST_NAME
    if (
        os.geteuid() == 0
    ):  # root prepares the mounts as itself, since nobody may look into its folders, and is then nobody
        linux.unshare(linux.NEW_MOUNTS)
        _new_root()
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        linux.own_process_files()
        _unshare_user(proc, others)
    else:
        _unshare_user(proc, others | linux.NEW_MOUNTS)
        _new_root()
    return proc


def confine_program(proc: int) -> None:
    """Puts the next child of this process into user and process namespaces of its own: it sees itself alone."""
    _unshare_user(proc, linux.NEW_PROCESSES)


def _unshare_user(proc: int, others: int) -> None:
    """New namespaces, in which this process has every right, and remains who it is for the world outside."""
    user, group = os.geteuid(), os.getegid()
    linux.unshare(linux.NEW_USER | others)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        file = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(file, text.encode())
        os.close(file)


def _new_root() -> None:
    """Changes the root to a folder in memory that holds what Python reads, read-only; the old one is gone."""
    kept = _python_folders()
    linux.mount("none", "/", "none", linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", "/tmp", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
    Path("/tmp/old").mkdir()
    linux.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    for folder in kept:
        Path(folder).mkdir(parents=True, exist_ok=True)
        linux.mount(f"/old{folder}", folder, "none", linux.MS_BIND | linux.MS_REC)
        linux.make_read_only(folder, recursive=True)
    for folder in [path for each in kept for path in _package_folders(each)]:
        linux.mount("tmpfs", folder, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=4k,nr_inodes=2,mode=755")
    for link in _SYSTEM_LIBRARIES:
        if (there := Path(f"/old{link}")).is_symlink():
            Path(link).symlink_to(there.readlink())
    Path("/dev").mkdir()
    for device in _DEVICES:
        Path(device).touch()
        linux.mount(f"/old{device}", device, "none", linux.MS_BIND)
    linux.unmount("/old")
    Path("/old").rmdir()
    linux.make_read_only("/", recursive=False)


def _python_folders() -> list[str]:
    """The folders that an import may read, by their real paths, none within another."""
    library = Path(os.__file__).parent
    folders = {os.path.realpath(each) for each in (*_SYSTEM_LIBRARIES, f"{sys.base_prefix}/lib", library)}
    there = sorted(each for each in folders if Path(each).is_dir())
    return [each for each in there if not any(each.startswith(f"{other}/") for other in there)]


def _package_folders(folder: str) -> list[str]:
    """Folders of installed packages in one of libraries: `python3.11/site-packages`, `python3/dist-packages`."""
    root = Path(folder)
    return [str(path) for name in _PACKAGES for path in (*root.glob(name), *root.glob(f"python3*/{name}"))]
