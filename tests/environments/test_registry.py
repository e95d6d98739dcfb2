"""The environments that come with inhouse: their streams do not move, their worked replies are right, no torch."""

import json
import pkgutil
import subprocess
import sys
from hashlib import sha256

import pytest

import inhouse.environments
from inhouse.data.documents import Document
from inhouse.environments.environment import Grade, exact_match
from inhouse.environments.library import library_problems
from inhouse.environments.registry import (
    DIALS,
    ENVIRONMENTS,
    check_name,
    checked_environment,
    environment_of,
    environments_of,
    file_of,
    label,
    with_file,
)
from inhouse.environments.word_problems import same_number

SCORED = [environment for environment in ENVIRONMENTS.values() if environment.score]


def digest(problems) -> str:
    return sha256(json.dumps([list(problem[:3]) for problem in problems]).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "train", "heldout"),
    [
        ("addition", "279719d1ae0b6059", "df6379c50ade68f6"),
        ("subtraction", "c57f5bb8a67fbd4e", "daeca386c0082b44"),
        ("brackets", "8c8ba4726f204e71", "a7d4e0ca750a12e6"),
        ("strings", "63e57510fd8fab1f", "9f6f9f2bc89b82a8"),
        ("sums:3", "80cf2e47356fb468", "53209e1c78550534"),
        ("products:4", "5ea6371978ca142c", "13348ebb04767e84"),
        ("algebra:3", "ce9a67bc88fff502", "83abc9754b3db6dd"),
        ("transformations:3", "26cd7c0ca578119c", "232351ae11476739"),
        ("programs:4", "646ee2df0eb99eac", "077238905672f5f5"),
        ("word_problems:4", "646ef028b7cfd39a", "8c4acd5f90633ada"),
    ],
)
def test_streams_stay_what_they_were(name, train, heldout):
    """A run made anew by a later version is to learn from, and be asked, the same problems."""
    assert digest(environment_of(name).draw("train", 20, 1, None)) == train
    assert digest(environment_of(name).draw("heldout", 20, 1, None)) == heldout


def test_questions_on_a_library_stay_what_they_were():
    source = "\n".join(f'def f{number}(a, b={number}):\n    """Do {number}."""' for number in range(10))
    document = Document(source, 0, "package/module.py")
    assert digest(library_problems([document], seed=1)) == "ef254434e11a2343"


def test_order_and_names():
    assert list(ENVIRONMENTS) == ["addition", "subtraction", "brackets", "strings", "library"]
    assert all(name == environment.name for name, environment in ENVIRONMENTS.items())


@pytest.mark.parametrize("environment", SCORED, ids=lambda environment: environment.name)
def test_worked_replies_are_worth_everything_and_other_answers_nothing(environment):
    for problem in environment.draw("train", 200, 0, None):
        assert environment.score(problem, problem.worked) == Grade(1, True)
        assert environment.score(problem, problem.worked + "0")[:2] == (0, True)
        assert environment.score(problem, problem.prompt)[:2] == (0, False)


@pytest.mark.parametrize("environment", SCORED, ids=lambda environment: environment.name)
def test_what_is_held_out_is_asked_once_and_never_trained_on(environment):
    heldout = [problem.prompt for problem in environment.draw("heldout", 150, 0, None)]
    assert len(set(heldout)) == len(heldout) == 150
    assert not set(heldout) & {problem.prompt for problem in environment.draw("train", 4_000, 0, None)}


def test_an_unknown_name_is_a_sentence():
    assert check_name("strings") == "strings"
    known = "there are addition, subtraction, brackets, strings, library"
    with pytest.raises(ValueError, match=f'there is no environment "string"; did you mean "strings"[?] {known}'):
        check_name("string")
    with pytest.raises(ValueError, match=f'there is no environment "chess"; {known}'):
        check_name("chess")


@pytest.mark.parametrize("module", [module.name for module in pkgutil.iter_modules(inhouse.environments.__path__)])
def test_no_torch_and_a_quick_import(module):
    code = f"""
import sys, time
started = time.process_time()
import inhouse.environments.{module}
assert time.process_time() - started < 0.3
assert not {{"torch", "numpy"{"" if module == "reward" else ', "pydantic"'}}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


LEVELS = [
    f"{dial.name}:{level}"
    for dial in DIALS.values()
    for level in range(1, dial.levels + 1)
    if dial.score in (None, same_number)  # the last line is the answer; others are looked at in `made`
]


@pytest.mark.parametrize("name", LEVELS)
def test_levels_of_a_dial_are_environments(name):
    environment = environment_of(name)
    trained = list(environment.draw("train", 100, 0, None))
    heldout = list(environment.draw("heldout", 30, 0, None))
    assert (environment.name, environment.level) == (name, int(name[-1]))
    assert len(trained) == 100
    assert len({each.prompt for each in heldout}) == len(heldout) == 30
    assert not {each.prompt for each in trained} & {each.prompt for each in heldout}
    for problem in trained:
        assert environment.score(problem, problem.worked) == Grade(1, True)
        assert environment.score(problem, problem.worked + "0")[:2] == (0, True)
        assert environment.score(problem, problem.prompt)[:2] == (0, False)
        assert environment.lenient(problem, f"It is:\n {problem.answer}.").score == 1


def test_names_with_a_level():
    assert environment_of("brackets") is ENVIRONMENTS["brackets"]
    with pytest.raises(ValueError, match="algebra has the levels 1 to 4, not 5"):
        environment_of("algebra:5")
    with pytest.raises(ValueError, match='"sums" has no level: sums:1 is the easiest, sums:9 the hardest'):
        environment_of("sums")
    with pytest.raises(
        ValueError,
        match=r'no environment "chess:1"; there are addition, .*, sums:1 to :9, .*, questions:FILE, ',
    ):
        environment_of("chess:1")


def test_files_of_questions_are_environments(tmp_path):
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"question": f"How many? {n}", "answer": n}) + "\n" for n in range(40)))
    name = f"questions:{file}"
    environment = checked_environment(name)
    assert environment.name == check_name(name) == name
    heldout = list(environment.draw("heldout", 40, 0, None))
    assert 0 < len(heldout) < 20
    assert environment.score(heldout[0], heldout[0].worked) == Grade(1, True)
    assert environment.lenient(heldout[0], f"I think {heldout[0].answer}").score == 1
    assert file_of(name) == file_of(f"{name}+calculator+python") == file
    assert with_file("gsm8k:a.jsonl+python", file) == f"gsm8k:{file}+python"
    assert label("sums:3+python") == "sums:3+python"
    assert label(f"{name}+python") == "questions:mine.jsonl+python"
    assert label("verifiers:x@/envs/x") == "verifiers:x@x"
    assert file_of("sums:3") is None
    with pytest.raises(ValueError, match='"questions" names no file: questions:FILE'):
        check_name("questions")


def test_tools_are_part_of_a_name():
    environment = environment_of("products:6+calculator+python")
    assert environment.name == "products:6+calculator+python"
    assert [tool.definition["function"]["name"] for tool in environment.tools] == ["calculator", "python"]
    plain = environment_of("products:6")
    assert list(environment.draw("train", 5, 0, None)) == list(plain.draw("train", 5, 0, None))
    with pytest.raises(ValueError, match=r'there is no environment "strings[+]oracle"'):
        check_name("strings+oracle")


def test_environments_have_an_order_of_their_own():
    names = ["sums:3", "brackets", "algebra:1", "addition"]
    assert [each.name for each in environments_of(names)] == ["addition", "brackets", "algebra:1", "sums:3"]


def test_what_cannot_be_learnt_from_is_refused_by_name(tmp_path):
    assert exact_match is checked_environment("addition").score
    with pytest.raises(ValueError, match="the environment library has no verifier"):
        checked_environment("library")
    file = tmp_path / "wrong.jsonl"
    file.write_text(json.dumps({"question": "Why?", "answer": "x", "worked": "Answer: y"}))
    with pytest.raises(ValueError, match=r'is not to be learnt from: .* problem 1 0, not 1 [(]"y" is not "x"[)]'):
        checked_environment(f"questions:{file}")
    file.write_text("")
    with pytest.raises(ValueError, match="has no problems to train on"):
        checked_environment(f"questions:{file}")
