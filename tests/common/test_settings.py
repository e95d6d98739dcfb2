"""Settings take what is meant and nothing that would have to be converted."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PositiveInt, ValidationError

from inhouse.common.settings import Settings


class Inner(Settings):
    count: PositiveInt = 1


class Some(Settings):
    """One field of every kind that settings have."""

    count: int = 0
    rate: float = 0.0
    is_on: bool = False
    name: str = ""
    path: Path = Path()
    names: tuple[str, ...] = ()
    counts: dict[str, PositiveInt] = {}  # noqa: RUF012
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()
    maybe: int | None = None


@pytest.mark.parametrize(
    "given",
    [{"count": "40960"}, {"count": True}, {"count": 1.0}, {"count": 2**63}, {"maybe": "3"}, {"maybe": False},
     {"rate": "0.1"}, {"rate": True}, {"rate": math.inf}, {"rate": math.nan}, {"is_on": "yes"}, {"is_on": 1},
     {"name": 3}, {"names": "a"}, {"names": [3]}, {"counts": {"a": True}}, {"counts": {"a": 2.0}},
     {"inner": {"count": "1"}}, {"inners": [{"count": True}]}, {"inners": [{"size": 1}]}],
)  # fmt: skip
def test_what_would_have_to_be_converted_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Some(**given)


def test_what_is_meant_is_taken() -> None:
    taken = Some.model_validate({"rate": 3, "path": "a/b", "names": ["a"], "inners": [{"count": 2}], "maybe": None})
    assert (taken.rate, taken.path, taken.names, taken.inners) == (3.0, Path("a/b"), ("a",), (Inner(count=2),))


@given(st.builds(Some, count=st.integers(-(2**63), 2**63 - 1), rate=st.floats(allow_nan=False, allow_infinity=False)))
def test_settings_go_through_json_unchanged(settings: Some) -> None:
    assert Some.model_validate_json(settings.model_dump_json()) == settings
