"""Programs that want to do harm: each is held in, named, and worth nothing; the next one runs as if nothing was."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inhouse.environments.sandbox.limits import MIB, Limits, check_limits
from inhouse.environments.sandbox.sandbox import _START as START
from inhouse.environments.sandbox.sandbox import SETTING, Sandbox

LIMITS = Limits(seconds=1, wall_seconds=10.0, memory=128 * MIB, output=100_000)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(LIMITS) as opened:
        try:
            opened.run("")
        except ValueError as refused:
            pytest.skip(str(refused))
        yield opened


def test_a_program_reads_its_input_and_prints(sandbox):
    outcome = sandbox.run("import math\nprint(math.factorial(int(input())))", "20")
    assert outcome[:4] == (True, None, "2432902008176640000\n", False)
    assert sandbox.run("raise SystemExit").is_done
    assert sandbox.run("import asyncio\nprint(asyncio.run(asyncio.sleep(0, 3)))").output == "3\n"
    assert sandbox.run("print(2 ** 20_000 % 10, 'ü')").output == "6 ü\n"
    assert sandbox.run("for each in {'a', 'b', 'c'}: print(each)") == sandbox.run(
        "for each in {'a', 'b', 'c'}: print(each)"
    )._replace(seconds=pytest.approx(0, abs=1))


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import os\nwhile True: os.fork()", "Function not implemented at: while True: os.fork()"),
        ("import threading\nthreading.Thread(target=print).start()", "can't start new thread"),
        ("import os\nos.execv('/bin/sh', ['sh'])", "Function not implemented"),
        ("import subprocess\nsubprocess.run(['true'])", "Function not implemented"),
        ("held = []\nwhile True: held.append(bytearray(10**6))", "MemoryError"),
        ("'x' * 10**10", "MemoryError"),
        ("import mmap\nmmap.mmap(-1, 10**9)", "Cannot allocate memory"),
        ("import os\nos.memfd_create('more')", "Function not implemented"),
        ("import ctypes\nassert ctypes.CDLL(None).shmget(0, 10**9, 0o1600) >= 0", "AssertionError"),
        ("held = []\nwhile True: held.append(open('/dev/null'))", "Too many open files"),
        ("import os\nos.kill(1, 9)\nos.kill(-1, 9)", "Function not implemented"),
        ("import os, signal\nos.kill(os.getppid(), 9)", "Function not implemented"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 80))", "Function not implemented"),
        ("import socket\nsocket.socket(socket.AF_UNIX)", "Function not implemented"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (9, 9))", "not"),
        ("import ctypes\nctypes.string_at(0)", "killed by signal 11"),
        ("def f(): return f()\nf()", "RecursionError"),
        ("raise SystemExit(3)", "exit code 3"),
        ("1 +", "SyntaxError"),
        ("x = '\\0'; 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)  # fmt: skip
def test_what_does_harm_is_held_in(sandbox, program, why):
    outcome = sandbox.run(program)
    assert not outcome.is_done
    assert why in outcome.why
    assert not outcome.is_late


def test_an_endless_loop_ends_with_its_time(sandbox):
    outcome = sandbox.run("while True: pass")
    assert (outcome.is_done, outcome.is_late) == (False, True)
    assert outcome.why in ("more than 1 s of computing", "not ended after 10 s")  # the latter where others compute too


def test_endless_output_ends_at_its_limit(sandbox):
    outcome = sandbox.run("while True: print('x' * 10_000)")
    assert (outcome.is_done, outcome.output) == (False, ("x" * 10_000 + "\n") * 9 + "x" * 9_991)
    assert "File too large" in outcome.why
    assert len(sandbox.run("import os\nfor _ in range(10_000): os.write(2, b'e' * 1_000)").why) == 2_000


def test_it_waits_no_longer_than_its_wall_seconds():
    with Sandbox(LIMITS._replace(wall_seconds=0.3)) as sandbox:
        outcome = sandbox.run("import time\nprint('well', flush=True)\ntime.sleep(60)")
    assert outcome[:4] == (False, "not ended after 0.3 s", "well\n", True)


def test_files_of_the_user_are_not_there_and_none_is_written(sandbox, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    library = str(Path(os.__file__).parent)
    attempts = f"""
import os
def attempt(do):
    try: do()
    except OSError: return
    raise SystemExit('that went through')
for name in ({str(secret)!r}, '/etc/passwd', '/proc/1/environ', '/proc/self/maps', '/sys/kernel', '/home', '/old'):
    attempt(lambda: os.stat(name))
    attempt(lambda: os.remove(name))
for folder in ('/', '/dev', '/lib', '/usr/lib', os.path.dirname(os.__file__)):
    attempt(lambda: open(folder + '/mine', 'w'))
    attempt(lambda: os.mkdir(folder + '/mine'))
    attempt(lambda: os.symlink('/etc/passwd', folder + '/link'))
attempt(lambda: open('/dev/null', 'w'))
attempt(lambda: os.remove(os.__file__))
attempt(lambda: os.rename(os.__file__, '/dev/os.py'))
attempt(lambda: os.chmod('/', 0o777))
attempt(lambda: os.chroot('/usr'))
attempt(lambda: os.setuid(0))
attempt(lambda: os.open('/dev/mem', os.O_RDWR))
assert set(os.listdir('/')) <= {{'dev', 'lib', 'lib64', 'usr', *{library!r}.split('/')}}, os.listdir('/')
assert os.listdir({library!r} + '/site-packages') == []
print(os.getpid(), sorted(os.environ.keys() - {{'LC_CTYPE'}}), [number for number in range(64) if is_open(number)])
"""
    outcome = sandbox.run(
        "import os\ndef is_open(n):\n    try: os.fstat(n)\n    except OSError: return False\n    return True\n"
        + attempts
    )
    assert outcome.why is None
    assert outcome.output == "1 ['PYTHONHASHSEED'] [0, 1, 2]\n"
    assert secret.read_text() == "mine"


def test_programs_know_nothing_of_each_other(sandbox):
    sandbox.run("import builtins, math\nbuiltins.mine = math.pi = 3\nsecret = 'hush' * 1000")
    outcome = sandbox.run(
        "import builtins, gc, math\nassert not hasattr(builtins, 'mine') and math.pi > 3\n"
        "assert not [each for each in gc.get_objects() if isinstance(each, dict) and 'secret' in each]"
    )
    assert outcome.is_done, outcome.why


TESTS = "assert double(4) == 8\nassert double('ab') == 'abab'\nassert double([1, (2.5, None)]) == [1, (2.5, None)] * 2"


def check(sandbox, solution):
    return sandbox.check(solution, TESTS, ["double"])


def test_a_right_solution_passes_and_a_wrong_one_is_told_why(sandbox):
    assert check(sandbox, "def double(x):\n    print('hm')\n    return x + x")[:3] == (True, None, "hm\n" * 3)
    wrong = check(sandbox, "def double(x): return x * 3")
    assert wrong[:2] == (False, "AssertionError at: assert double(4) == 8")
    assert check(sandbox, "def double(x) return x").why.startswith("SyntaxError")
    assert "KeyError: 'double'" in check(sandbox, "x = 1").why
    assert check(sandbox, "def double(x): return x / 0").why.startswith("ZeroDivisionError: ZeroDivisionError: ")
    assert "a range is no plain data" in check(sandbox, "def double(x): return range(9)").why


EQUAL = "class Equal:\n    def __eq__(self, other): return True\n"


@pytest.mark.parametrize(
    "solution",
    [
        EQUAL + "def double(x): return Equal()",
        EQUAL + "class Number(int):\n    __eq__ = Equal.__eq__\n    __hash__ = None\ndef double(x): return Number(1)",
        "import sys\ndef double(x):\n    frame = sys._getframe()\n    while frame := frame.f_back:\n"
        "        for each in (*frame.f_code.co_consts, *frame.f_locals.values()):\n"
        "            if each in (8, 'abab'): return each\n",
        "import gc\ndef double(x): return [o for o in gc.get_objects() if str(o) in ('ab' * 2, '8')][0]",
        "import sys\nsys.modules['tests'].double = lambda x: x * 2\ndef double(x): return 0",
        "import builtins\nbuiltins.AssertionError = SystemExit\ndef double(x): raise SystemExit(0)",
        "import os\ndef double(x): os._exit(0)",
        "import os\nos.write(0, b'{\"value\": 8}\\n' * 9)\ndef double(x): return None",
        'import os\ndef double(x):\n    os.write(0, b\'{"error": "SystemExit", "text": "0"}\\n\')',
        "import os\ndef double(x):\n    os.write(0, b'[1, 2')\n    os._exit(0)",
        "import os\ndef double(x):\n    while True: os.write(0, b'[' * 10_000)",
        "def double(x): return [double(x)]",
        "def double(x):\n    while True: pass",
        "raise SystemExit(0)",
        "import os, signal\nos.kill(0, signal.SIGKILL)",
    ],
)
def test_no_trick_makes_a_wrong_solution_pass(sandbox, solution):
    outcome = check(sandbox, solution)
    assert not outcome.is_done
    assert outcome.why


def test_errors_of_a_solution_are_errors_among_its_tests(sandbox):
    tests = "try: f()\nexcept ValueError as error: assert 'no' in str(error)\nelse: assert False"
    assert sandbox.check("def f(): raise ValueError('no')", tests, ["f"]).is_done
    assert not sandbox.check("def f(): raise StopIteration('no')", tests, ["f"]).is_done
    looped = "for each in map(f, [1]): assert each == 2"
    assert not sandbox.check("def f(x): raise StopIteration", looped, ["f"]).is_done


def test_tests_may_have_helpers_of_their_own(sandbox):
    assert sandbox.check(
        "def f(x, *, by): return x * by", "assert f(helper(), by=2) == 6", ["f"], "def helper(): return 3"
    ).is_done


def test_all_ends_with_the_client(tmp_path):
    code = """
import threading, time
from inhouse.environments.sandbox.sandbox import Sandbox
from inhouse.environments.sandbox.limits import Limits
sandbox = Sandbox(Limits(seconds=60, wall_seconds=60))
print(sandbox.run("print(1)").output, sandbox._server._process.pid, flush=True)
sandbox.run("while True: pass")
"""
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "1\n"
    server = int(client.stdout.readline())
    session = {each for each in processes() if os.getsid(each) == server}
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    for _ in range(1000):
        if not session & processes():
            break
        time.sleep(0.01)
    assert len(session) >= 2
    assert not session & processes()


def processes() -> set[int]:
    """Of the machine, those that are no zombies: an orphan may wait for somebody to bury it."""
    alive = set()
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            if each.read_text().rsplit(")", 1)[1].split()[0] != "Z":
                alive.add(int(each.parent.name))
        except OSError:
            continue
    return alive


def test_a_server_that_was_killed_is_started_anew(sandbox):
    sandbox._server._process.kill()
    sandbox._server._process.wait()
    assert sandbox.run("print(1)").output == "1\n"


def test_a_forked_process_neither_uses_nor_keeps_its_parents_server(sandbox):
    with Sandbox(LIMITS) as mine:
        mine.run("")
        ours, theirs = os.pipe()
        with mine._lock:  # as another thread may hold it
            child = os.fork()
        if child == 0:
            try:
                os.close(theirs)
                free, server = mine._lock.acquire(blocking=False), mine._server
                os.read(ours, 1)
                os._exit(0 if free and server is None else 1)
            finally:
                os._exit(2)
        os.close(ours)
    assert mine._server is None  # closed, while the child is there
    os.close(theirs)
    assert os.waitpid(child, 0)[1] == 0


def test_a_process_that_is_held_to_less_is_told_so(monkeypatch):
    """Else every program ends before its first line, and each solution is worth nothing."""
    monkeypatch.setattr("resource.getrlimit", lambda kind: (-1, 400 * MIB if kind == resource.RLIMIT_AS else -1))
    with pytest.raises(ValueError, match="needs RLIMIT_AS of 536870912, but this process may have 419430400 at most"):
        Sandbox().run("")


def test_a_program_that_could_not_be_started_is_no_wrong_one(monkeypatch):
    refusing = START.replace("import main", "import main; import os, inhouse.environments.sandbox.server as server")
    failing = "setattr(server.jail, 'confine_program', lambda proc: os.open('/none', 0)); main()"
    monkeypatch.setattr("inhouse.environments.sandbox.sandbox._START", refusing.replace("main()", failing))
    with Sandbox(LIMITS) as sandbox, pytest.raises((ValueError, OSError)) as raised:
        sandbox.run("")
    assert isinstance(raised.value, ValueError) or "could not start a program: [Errno 2]" in str(raised.value)


def test_want_of_open_files_ends_no_program_of_others(sandbox, monkeypatch):
    sandbox.run("")
    server = sandbox._server
    monkeypatch.setattr("os.memfd_create", lambda name: os.open("/none", 0))
    with pytest.raises(OSError, match="/none"):
        sandbox._start("run", "", 0)
    assert sandbox._server is server
    assert not server.has_ended()


def test_with_limits_alone_it_computes_and_does_most_harm_in_vain(monkeypatch, tmp_path):
    monkeypatch.setenv(SETTING, "limits")
    mine = tmp_path / "mine"
    mine.write_text("")
    tmp_path.chmod(0o777)
    with Sandbox(LIMITS) as sandbox:
        assert sandbox.run("print(1)").output == "1\n"
        for harm in (
            f"os.remove({str(mine)!r})",
            f"open({str(mine)!r}, 'a')",
            "os.fork()",
            f"os.kill({os.getpid()}, 0)",
            f"import fcntl; fcntl.fcntl(0, fcntl.F_SETOWN, {os.getpid()})",
            "import socket; socket.socketpair(1, socket.SOCK_DGRAM)[0].sendto(b'', '/dev/log')",
        ):
            assert "not implemented" in (why := sandbox.run(f"import os\n{harm}").why) or "Read-only" in why
        assert check(sandbox, "def double(x): return x + x").is_done
    assert mine.exists()


def test_what_cannot_be_held_in_is_not_run(monkeypatch):
    monkeypatch.setenv(SETTING, "none")
    with pytest.raises(ValueError, match=r'INHOUSE_SANDBOX is "none"; it is "walls" \(or not set\), or "limits"'):
        Sandbox().run("")
    monkeypatch.setenv(SETTING, "walls")
    monkeypatch.setattr("inhouse.environments.sandbox.sandbox.is_known_machine", lambda: False)
    with pytest.raises(ValueError, match="on Linux on x86_64 or aarch64 alone"):
        Sandbox().run("")


def test_limits_within_which_nothing_runs_are_refused():
    assert check_limits(LIMITS) == LIMITS
    with pytest.raises(ValueError, match="the sandbox's memory is 1000; at least 67108864 is needed"):
        Sandbox(Limits(memory=1000))
