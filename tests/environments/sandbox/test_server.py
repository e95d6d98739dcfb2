"""Where the walls cannot be built, nothing is run, and one sentence says why."""

import os

import pytest

from inhouse.environments.sandbox.sandbox import Sandbox


def test_a_kernel_that_refuses_is_quoted(monkeypatch):
    start = "inhouse.environments.sandbox.sandbox._START"
    refusing = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from inhouse.environments.sandbox import server, jail\n"
        "def refuse(): raise PermissionError(1, 'unshare: Operation not permitted')\n"
        "jail.confine_server = refuse; server.main()"
    )
    monkeypatch.setattr(start, refusing)
    with (
        Sandbox() as sandbox,
        pytest.raises(ValueError, match=r"refuses \(unshare: Operation not permitted\); allow user"),
    ):
        sandbox.run("print(1)")
    monkeypatch.setattr(start, "raise SystemExit")
    with Sandbox() as sandbox, pytest.raises(ValueError, match="refuses .it ended as it began."):
        sandbox.run("print(1)")


def test_nothing_stays_open_in_the_client():
    with Sandbox() as sandbox:
        try:
            sandbox.run("")
        except ValueError as refused:
            pytest.skip(str(refused))
        before = os.listdir("/proc/self/fd")
        for program in ("print(1)", "1 / 0", "import os\nos._exit(1)"):
            sandbox.run(program)
            sandbox.check(program, "assert f() == 1", ["f"])
        assert len(os.listdir("/proc/self/fd")) == len(before)
