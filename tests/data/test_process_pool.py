"""Results in order, errors and killed workers told to the caller."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inhouse.common.files import digest
from inhouse.data.process_pool import map_ordered


def pid_of(number: int) -> int:
    time.sleep(0.02 if number % 2 else 0)
    return os.getpid() if number < 0 else number


def fail(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    return number


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_item_and_one_process_need_no_other_process():
    assert list(map_ordered(pid_of, [-1], 4)) == [os.getpid()]
    assert list(map_ordered(pid_of, [-1, -2], 1)) == [os.getpid()] * 2
    assert list(map_ordered(pid_of, [], 4)) == []


def test_order_is_kept_and_work_under_way_is_bounded():
    taken = []

    def items():
        for i in range(40):
            taken.append(i)
            yield i

    results = map_ordered(pid_of, items(), 2)
    assert next(results) == 0
    assert len(taken) <= 6
    assert list(results) == list(range(1, 40))


def test_an_error_in_a_worker_is_the_callers():
    with pytest.raises(ValueError, match="three"):
        list(map_ordered(fail, range(10), 2))


def test_a_killed_worker_is_one_sentence():
    with pytest.raises(ChildProcessError, match="worker process was killed"):
        list(map_ordered(die, range(10), 2))


def note_after(seconds_and_file: tuple[int, Path]) -> Path:
    seconds, file = seconds_and_file
    time.sleep(seconds)
    file.touch()
    return file


def test_work_under_way_ends_with_the_caller(tmp_path):
    files = [tmp_path / str(number) for number in range(3)]
    results = map_ordered(note_after, zip([0, 300, 300], files, strict=True), 2)
    assert next(results) == files[0]
    results.close()
    assert [file for file in files if file.exists()] == files[:1]
    assert not multiprocessing.active_children()


SCRIPT = """
from inhouse.common.files import digest
from inhouse.data.process_pool import map_ordered
from pathlib import Path
print("here once", flush=True)
for found in map_ordered(digest, [Path(__file__)] * 4, 2):
    print(found, flush=True)
"""


def test_a_script_without_a_main_guard_is_run_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["here once", *[digest(script)] * 4]


def test_the_callers_main_module_stays_what_it_is():
    before = sys.modules["__main__"]
    assert list(map_ordered(pid_of, [1, 3, 5], 2)) == [1, 3, 5]
    assert sys.modules["__main__"] is before
