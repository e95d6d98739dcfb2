"""What all tests have in common."""

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


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes do not name a test: those of an archive hold its time, and two processes must collect the same tests."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def same_chances(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request without a seed draws is the same in every run: a test that fails now and then says nothing."""
    monkeypatch.setattr(secrets, "randbits", random.Random(0).getrandbits)
