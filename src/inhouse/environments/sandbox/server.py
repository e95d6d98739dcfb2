"""The process that programs are forked from: a Python with nothing in its memory, started once, behind walls.

It reads requests from a socket: the limits and the role of a program, and open files. The program itself is in one of
these files, which only its own process reads; so the server, and with it every program that comes later, knows
nothing of programs and tests before. For each request it forks a keeper, which forks the program, ends it in time and
reports; a keeper whose client is gone ends its program at once. The server ends when its client does, and all with it.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import NamedTuple, NoReturn

from inhouse.environments.sandbox import jail
from inhouse.environments.sandbox import system_calls as linux
from inhouse.environments.sandbox.limits import Limits, kernel_limits
from inhouse.environments.sandbox.program import prepare, run_program
from inhouse.environments.sandbox.seccomp import install_filter

NUM_FILES = 5  # that come with a request: control, program, output, errors, input
LARGEST_REQUEST = 4096


class _Request(NamedTuple):
    role: str
    limits: Limits
    control: int
    program: int
    output: int
    errors: int
    input: int


def main() -> NoReturn:
    """Serves the socket on descriptor 0; `sys.argv[1]` says whether behind walls (`walls`) or not (`limits`).

    Answers once, with an empty text where it is ready and else with what the kernel refused.
    """
    server = socket.socket(fileno=os.dup(0))
    has_walls = sys.argv[1] == "walls"
    prepare()
    proc = -1
    if has_walls:
        try:
            proc = jail.confine_server()
        except OSError as error:
            server.send(json.dumps(str(error.strerror or error)).encode())
            os._exit(1)
        if child := os.fork():  # the first process of its namespace: when it ends, so does everything in there
            server.close()
            os.waitpid(child, 0)
            os._exit(0)
        linux.die_with_parent()
    server.send(json.dumps("" if _has_filter() else "seccomp filters cannot be installed").encode())
    _serve(server, proc if has_walls else None)


def _has_filter() -> bool:
    """Whether a process here can put itself behind the filter; tried in one that ends."""
    child = os.fork()
    if child == 0:
        try:
            install_filter()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return os.waitpid(child, 0)[1] == 0


def _serve(server: socket.socket, proc: int | None) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need no burial
    while True:
        text, files, _, _ = socket.recv_fds(server, LARGEST_REQUEST, NUM_FILES)
        if not text:
            os._exit(0)
        try:
            is_keeper = os.fork() == 0
        except OSError as error:  # no process left
            is_keeper = False
            _refuse(files[0], error)
        if is_keeper:
            server.close()
            fields = json.loads(text)
            _keep(_Request(fields["role"], Limits(**fields["limits"]), *files), proc)
        for file in files:
            os.close(file)


def _keep(request: _Request, proc: int | None) -> NoReturn:
    """Runs the program of a request, ends it when its time is over or nobody waits for it, and reports."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control = socket.socket(fileno=request.control)
    try:
        if proc is not None:
            _offer_to_the_oom_killer(proc)
            jail.confine_program(proc)
        started = time.monotonic()
        child = os.fork()
    except OSError as error:  # no namespace or no process left
        _refuse(request.control, error)
        os._exit(1)
    if child == 0:
        _become_program(request, has_capabilities=proc is not None)
    watched = select.poll()
    ending = os.pidfd_open(child)
    watched.register(ending, select.POLLIN)
    watched.register(control, select.POLLIN)
    is_ended = ending in dict(watched.poll(request.limits.wall_seconds * 1000))
    os.kill(child, signal.SIGKILL)  # and with the first process of its namespace everything in there
    _, status, usage = os.wait4(child, 0)
    report = {
        "code": os.waitstatus_to_exitcode(status),
        "is_late": not is_ended,
        "seconds": usage.ru_utime + usage.ru_stime,
        "wall_seconds": time.monotonic() - started,
    }
    with contextlib.suppress(OSError):  # the client may be gone
        control.send(json.dumps(report).encode())
    os._exit(0)


def _refuse(control: int, error: OSError) -> None:
    """Tells the client that it is not the program's fault."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(control)) as client:
        client.send(json.dumps({"refused": str(error)}).encode())


def _offer_to_the_oom_killer(proc: int) -> None:
    """Where the machine's memory runs out, the untrusted program goes first, and not somebody's training run."""
    file = os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=proc)
    os.write(file, b"1000")
    os.close(file)


def _become_program(request: _Request, has_capabilities: bool) -> NoReturn:
    """What nobody vouches for begins at the end of this function: all that binds it is in place before."""
    code = 1
    try:
        linux.die_with_parent()
        with os.fdopen(request.program, "rb") as file:
            source = file.read().decode()
        for place, file_number in enumerate((request.input, request.output, request.errors)):
            os.dup2(file_number, place)
        os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        _set_limits(request.limits)
        if has_capabilities:
            linux.drop_capabilities()
        install_filter()
        code = run_program(request.role, source)
    finally:
        os._exit(code)


def _set_limits(limits: Limits) -> None:
    for name, most in kernel_limits(limits).items():
        resource.setrlimit(getattr(resource, name), (most, most))
