"""Changes to a word, followed a second time from the prompt."""

import pytest

from inhouse.environments.transformations import _CHANGES, TRANSFORMATIONS


@pytest.mark.parametrize("level", range(1, TRANSFORMATIONS.levels + 1))
def test_steps_follow_from_each_other(level):
    seen = set()
    for problem in TRANSFORMATIONS.at(level).draw("train", 200, 0, None):
        first, *steps, last = problem.worked.split("\n")
        word, spelled = first.split(": ")
        assert word in problem.prompt
        assert list(word) == spelled.split(" ")
        assert len(steps) == level
        for step in steps:
            change, spelled = step.split(": ")
            word = _CHANGES[change](word)
            assert spelled == " ".join(word)
            assert change in problem.prompt
            seen.add(change)
        assert last == f"Answer: {word}"
    assert seen == set(_CHANGES)


def test_changes_are_what_they_say():
    assert {change: do("hanelo") for change, do in _CHANGES.items()} == {
        "reverse it": "olenah",
        "sort its letters": "aehlno",
        "move the first letter to the end": "aneloh",
        "move the last letter to the front": "ohanel",
        "swap the first and the last letter": "oanelh",
        "double the last letter": "haneloo",
        "drop the first letter": "anelo",
        "write the first letter as a capital": "Hanelo",
        "replace every a by o": "honelo",
        "replace every e by i": "hanilo",
    }
