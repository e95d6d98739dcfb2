"""What all tests have in common."""

import gc
import random
import secrets
import signal

import pytest
from hypothesis import settings

# a shell's background jobs, and all that they start, ignore Ctrl-C; what is tested must not
signal.signal(signal.SIGINT, signal.default_int_handler)

# an example may take as long as it likes: how long says how busy the machine is, not whether the code is right
settings.register_profile("inhouse", deadline=None)
settings.load_profile("inhouse")

# nothing that is imported to find the tests is garbage, and looking through it took a fifth of that time
gc.disable()


LONG = ("test_end_to_end.py", "test_launch.py", "test_compilation.py", "test_fsdp.py", "test_pipeline_parallel.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take longest first: at the end nobody waits for the other process's last test."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish() -> None:
    """What is there by now stays. It is a million objects, which every run that trains looked through again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes do not name a test: those of an archive hold its time, and two processes must collect the same tests."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def same_chances(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request without a seed draws is the same in every run: a test that fails now and then says nothing."""
    monkeypatch.setattr(secrets, "randbits", random.Random(0).getrandbits)
