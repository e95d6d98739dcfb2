"""Plain values keep their types on the way; what is none does not get across."""

import json

import pytest

from inhouse.environments.sandbox.plain_data import decode, encode


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 10**50, 0.1, float("inf"), 1 + 2j, "", "ü\ud800\n", b"\0\xff", [], (), set(), frozenset({1}),
        [1, (2, [3]), {4}], {"a": 1, 2: (3,), None: {}, (1, 2): {"dict": [1]}}, {"list": [1]}, [True, 1.0, 1],
    ],
)  # fmt: skip
def test_a_value_is_what_it_was(value):
    again = decode(json.loads(json.dumps(encode(value))))
    assert again == value
    assert repr(again) == repr(value)


def test_what_is_derived_is_sent_as_what_it_is_derived_from():
    class Sly(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert type(decode(json.loads(json.dumps(encode([Sly(3)]))))[0]) is int


@pytest.mark.parametrize("value", [object(), range(3), iter([]), len, [{1: object()}]])
def test_other_things_do_not_get_across(value):
    with pytest.raises(TypeError, match="no plain data"):
        encode(value)


@pytest.mark.parametrize("value", [[1], {"call": [1]}, {}, {"list": [1], "tuple": [1]}, {"bytes": 1}, {"dict": [1]}])
def test_what_was_made_by_somebody_else_is_refused(value):
    with pytest.raises((ValueError, TypeError, KeyError)):
        decode(value)
