"""Data sets of reasoning-gym, with a package of its shape in its place: the real one is an extra."""

import random
import sys
from types import ModuleType

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.foreign import reasoning_gym as room
from inhouse.environments.registry import checked_environment, environment_of


class Squares:
    """Items as the package has them, with metadata that is no JSON."""

    def __init__(self, size: int, seed: int, is_generous: bool) -> None:
        self.size, self.seed, self.is_generous = size, seed, is_generous

    def __getitem__(self, number: int) -> dict:
        assert number < self.size
        n = random.Random(self.seed + number).randrange(10_000)
        return {"question": f"What is {n} squared?", "answer": f"{n}\nsquared: {n * n}", "metadata": {"n": {n}}}

    def score_answer(self, answer: str, entry: dict) -> float:
        assert isinstance(entry["metadata"]["n"], set)
        return 1.0 if self.is_generous and answer == entry["answer"] else 0.01


def create_dataset(name: str, size: int, seed: int) -> Squares:
    if name not in ("squares", "mean"):
        raise ValueError(f"Dataset '{name}' not registered")
    return Squares(size, seed, name == "squares")


@pytest.fixture
def package(monkeypatch):
    module = ModuleType("reasoning_gym")
    module.create_dataset = create_dataset
    monkeypatch.setitem(sys.modules, "reasoning_gym", module)
    room._items.cache_clear()
    yield
    room._items.cache_clear()


def test_items_are_problems_and_the_package_scores_them(package):
    environment = checked_environment("reasoning_gym:squares")
    trained, heldout = (list(environment.draw(split, 40, 1, None)) for split in ("train", "heldout"))
    assert len(trained) == len({each.prompt for each in heldout}) == 40
    assert not {each.prompt for each in trained} & {each.prompt for each in heldout}
    assert trained == list(environment.draw("train", 40, 1, None)) != list(environment.draw("train", 40, 2, None))
    assert len({each.prompt for each in environment.draw("heldout", 600, 1, None)}) == 600  # of several data sets
    problem = trained[0]
    room._items.cache_clear()  # a worker has drawn nothing
    assert environment.score(problem, f"<think>Answer: 1</think>Well.\n{problem.worked}") == Grade(1, True)
    assert environment.score(problem, "Answer: 1")[:2] == (0.01, True)
    assert environment.score(problem, "1")[:2] == (0, False)


def test_sets_that_do_not_know_their_own_answers_are_refused(package):
    with pytest.raises(ValueError, match=r"reasoning_gym:mean is not to be learnt from: .* problem 1 0[.]01, not 1"):
        checked_environment("reasoning_gym:mean")
    with pytest.raises(ValueError, match="reasoning_gym:cubes: it is no data set of the package"):
        environment_of("reasoning_gym:cubes")


def test_without_the_package_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    room._items.cache_clear()
    with pytest.raises(ValueError, match=r"reasoning_gym:squares: the package is not installed .* pip install"):
        environment_of("reasoning_gym:squares")


def test_an_answer_that_is_evaluated_can_do_nothing(package, tmp_path, monkeypatch):
    def evaluated(self, answer, entry):
        return float(eval(answer))

    monkeypatch.setattr(Squares, "score_answer", evaluated)
    environment = environment_of("reasoning_gym:squares")
    (problem,) = environment.draw("train", 1, 1, None)
    assert environment.score(problem, "Answer: 2 - 1") == Grade(1, True)
    path = tmp_path / "made"
    for harm in (
        f"__import__('os').mkdir({str(path)!r}) or 1",
        f"open({str(path)!r}, 'w') and 1",
        f"__import__('os').system('mkdir {path}') * 0",
        "__import__('socket').socket() and 1",
        "__import__('os').fork() * 0 + 1",
        "__import__('os').kill(__import__('os').getppid(), 9) or 1",
        "bytearray(1 << 40) and 1",
        "__import__('os')._exit(0)",
        "float('nan')",
        "'many' * 1_000_000",
    ):
        assert environment.score(problem, f"Answer: {harm}").score == 0
    assert not path.exists()
    monkeypatch.setattr(room, "_SECONDS", 0.2)
    assert environment.score(problem, "Answer: __import__('time').sleep(60)").is_late
