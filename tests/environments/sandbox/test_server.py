"""Where the walls cannot be built, nothing is run, and one sentence says why."""

from pathlib import Path

import pytest

from inhouse.environments.sandbox.sandbox import Sandbox

REFUSING = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from inhouse.environments.sandbox import jail, server
def refuse(): raise PermissionError(1, "unshare: Operation not permitted")
jail.confine_server = refuse
server.main()
"""
NO_FILTER = """
import sys
sys.path.insert(0, sys.argv.pop(1))
sys.argv[1] = "limits"
from inhouse.environments.sandbox import server
def install_filter(): raise OSError(22, "prctl: Invalid argument")
server.install_filter = install_filter
server.main()
"""
REFUSED = r"refuses \(unshare: Operation not permitted\); allow user namespaces, or set INHOUSE_SANDBOX=limits"


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (REFUSING, REFUSED),
        (NO_FILTER, "seccomp filters cannot be installed"),
        ("raise SystemExit", "it ended as it began"),
    ],
)
def test_a_kernel_that_refuses_is_quoted(monkeypatch, start, said):
    monkeypatch.setattr("inhouse.environments.sandbox.sandbox._START", start)
    with Sandbox() as sandbox, pytest.raises(ValueError, match=said):
        sandbox.run("print(1)")


def test_nothing_stays_open_in_the_client():
    with Sandbox() as sandbox:
        try:
            sandbox.run("")
        except ValueError as refused:
            pytest.skip(str(refused))
        before = len(list(Path("/proc/self/fd").iterdir()))
        for program in ("print(1)", "1 / 0", "import os\nos._exit(1)"):
            sandbox.run(program)
            sandbox.check(program, "assert f() == 1", ["f"])
        assert len(list(Path("/proc/self/fd").iterdir())) == before
