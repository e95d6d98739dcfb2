"""A suite is a list of tasks in TOML; what it cannot mean is refused before anything is asked."""

import json
from pathlib import Path

import pytest

from inhouse.evaluate.suite.suite import open_suite, ready_suites

ITEM = {"query": "2 + 2 =", "choices": ["3", "4"], "gold": 1}


def write(folder: Path, text: str) -> str:
    (folder / "mine.jsonl").write_text(json.dumps(ITEM) + "\n" + json.dumps(ITEM) + "\n")
    (folder / "suite.toml").write_text(text)
    return str(folder / "suite.toml")


def test_a_suite_lists_files_and_ready_tasks(tmp_path: Path) -> None:
    (tmp_path / "eval" / "core" / "commonsense_reasoning").mkdir(parents=True)
    (tmp_path / "eval" / "core" / "commonsense_reasoning" / "copa.jsonl").write_text(json.dumps(ITEM))
    text = 'data = "eval"\n[[task]]\nname = "mine"\nfile = "mine.jsonl"\nlimit = 1\n[[task]]\nname = "core/copa"\n'
    suite = open_suite(write(tmp_path, text))
    assert (suite.name, [task.name for task in suite.tasks]) == ("suite", ["mine", "core/copa"])
    assert [len(list(task.items())) for task in suite.tasks] == [1, 1]
    assert [task.name for task in open_suite(write(tmp_path, text), only=["core/copa"]).tasks] == ["core/copa"]


def test_a_file_of_items_is_a_suite_of_one_task(tmp_path: Path) -> None:
    write(tmp_path, "")
    suite = open_suite(str(tmp_path / "mine.jsonl"), limit=1)
    assert (suite.name, [task.name for task in suite.tasks]) == ("mine", ["mine"])
    assert len(list(suite.tasks[0].items())) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no tasks in it; a suite needs at least one"),
        ("task = 3", "task: .*given: 3"),
        ("[[task]\n", "not valid TOML"),
        ('[[task]]\nname = "a"\nfle = "b"\n', r"task\.1\.fle: extra inputs are not permitted"),
        ('[[task]]\nname = "a"\nfile = "none.jsonl"\n', r"none\.jsonl: no such file"),
        ('[[task]]\nname = "core/copa"\n', "name the folder of the tasks' files with --data"),
        ('data = "."\n[[task]]\nname = "cora/copa"\n', "no task \"cora/copa\"; did you mean core/copa"),
        ('[[task]]\nname = "a"\nfile = "mine.jsonl"\n' * 2, "the task a stands in it twice"),
        ('data = "."\n[[task]]\nname = "core/copa"\nshots = 2\n', "shots belongs to a task with a file"),
        ('[[task]]\nname = "a"\nfile = "mine.jsonl"\nfields = {contxt = "query"}\n', "names a field contxt; there are"),
        ('[[task]]\nname = "a"\nfile = "mine.jsonl"\nchance = 1.5\n', r"task\.1\.chance"),
    ],
)  # fmt: skip
def test_what_a_suite_cannot_mean_is_refused_in_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        open_suite(write(tmp_path, text))


def test_a_file_that_is_no_suite_is_told_what_one_is(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("question,answer\nwhy?,so\n")
    with pytest.raises(ValueError, match=r"mine\.csv: a suite is a \.toml file, or one task's \.jsonl or \.jsonl\.gz$"):
        open_suite(str(tmp_path / "mine.csv"))


def test_unknown_suites_and_tasks_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no suite cor: no such file, and did you mean core\?"):
        open_suite("cor")
    with pytest.raises(ValueError, match="the suite has no task mine2; did you mean mine"):
        open_suite(write(tmp_path, '[[task]]\nname = "mine"\nfile = "mine.jsonl"\n'), only=["mine2"])


@pytest.mark.parametrize("name", [name for name in ready_suites() if name != "product"])
def test_ready_suites_want_only_the_folder_of_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--data"):
        open_suite(name)
