"""Any .jsonl file is a task: its kind is told by its fields, and what does not fit is one sentence with its place."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inhouse.evaluate.tasks.jsonl import Shape, jsonl_task
from inhouse.evaluate.tasks.task import Item, Task

CHOICE = {"query": "2 + 2 =", "choices": ["3", "4"], "gold": 1}


def task_of(folder: Path, records: Sequence[Any], shape: Shape = Shape(), **options: Any) -> Task:  # noqa: B008
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return jsonl_task("items", path, shape, **options)


def only(task: Task) -> Item:
    (item,) = task.items()
    return item


@pytest.mark.parametrize(
    ("record", "kind", "pairs", "gold"),
    [
        (CHOICE, "multiple_choice", [("2 + 2 = ", "3"), ("2 + 2 = ", "4")], "4"),
        (
            {"context_options": ["He", "She"], "continuation": "ran.", "gold": 0},
            "multiple_choice", [("He ", "ran."), ("She ", "ran.")], "He",
        ),
        ({"text": "All of it."}, "log_likelihood", [("", "All of it.")], None),
        ({"context": "1, 2,", "continuation": "3"}, "log_likelihood", [("1, 2, ", "3")], None),
        (
            {"sentence_good": "Cats sleep.", "sentence_bad": "Cats sleeps.", "UID": "agreement", "pairID": "0"},
            "minimal_pairs", [("", "Cats sleep."), ("", "Cats sleeps.")], "Cats sleep.",
        ),
        ({"question": "Who?", "answer": "me"}, "generation", [], "me"),
    ],
)  # fmt: skip
def test_the_fields_tell_the_kind(record: dict[str, Any], kind: str, pairs: Any, gold: str, tmp_path: Path) -> None:
    task = task_of(tmp_path, [record])
    item = only(task)
    assert (task.kind, item.pairs, item.gold_text, item.document) == (kind, pairs, gold, record)


def test_fields_may_have_other_names_and_the_file_may_be_gzipped(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"beginning": "a", "choices": ["b", "c"], "best": 1}).encode()))
    task = jsonl_task("mine", path, Shape(fields={"context": "beginning", "gold": "best"}, delimiter=""))
    assert only(task).pairs == [("a", "b"), ("a", "c")]


def test_solved_items_stand_before_each_but_itself_the_same_in_every_run(tmp_path: Path) -> None:
    records = [CHOICE | {"query": f"{number} ="} for number in range(9)]
    items = list(task_of(tmp_path, records, Shape(shots=3)).items())
    for number, item in enumerate(items):
        *shots, own = item.context.split("\n\n")
        assert own == f"{number} =" and len(set(shots)) == 3
        assert all(shot.endswith("= 4") and shot != f"{number} = 4" for shot in shots)
    assert [item.context for item in task_of(tmp_path, records, Shape(shots=3), limit=2).items()] == [
        item.context for item in items[:2]
    ]


def test_no_copy_of_an_item_gives_its_answer_away(tmp_path: Path) -> None:
    turned = {"query": "2 + 2 =", "choices": ["4", "3"], "gold": 0}
    records = [CHOICE, turned, CHOICE, *(CHOICE | {"query": f"{number} ="} for number in range(3))]
    for item in list(task_of(tmp_path, records, Shape(shots=3)).items())[:3]:
        assert item.context.count("2 + 2 =") == 1 and item.context.count("\n\n") == 3


def test_solved_items_of_a_generation_have_the_delimiter(tmp_path: Path) -> None:
    records = [{"prompt": f"{number}?", "answer": str(number)} for number in range(2)]
    first, _ = task_of(tmp_path, records, Shape(shots=1, delimiter="\nA: ")).items()
    assert first.context == "1?\nA: 1\n\n0?"


def test_an_item_that_stands_twice_is_not_solved_before_itself(tmp_path: Path) -> None:
    records = [CHOICE | {"query": f"{number % 4} ="} for number in range(8)]
    for number, item in enumerate(task_of(tmp_path, records, Shape(shots=9)).items()):
        *shots, own = item.context.split("\n\n")
        assert own == f"{number % 4} =" and sorted(shots) == sorted(
            f"{n % 4} = 4" for n in range(8) if n % 4 != number % 4
        )


def test_items_on_one_passage_and_twins_share_a_cluster(tmp_path: Path) -> None:
    on_passage = [CHOICE | {"query": f"Passage: It rained.\nQuestion {number}"} for number in range(2)]
    assert len({item.cluster for item in task_of(tmp_path, on_passage).items()} - {None}) == 1
    twins = [{"context_options": ["He", "She"][::turn], "continuation": "ran", "gold": 0} for turn in (1, -1)]
    assert len({item.cluster for item in task_of(tmp_path, twins).items()} - {None}) == 1
    assert only(task_of(tmp_path, [CHOICE])).cluster is None


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"query": "x", "choices": ["a", "b"]}, "item 0: the field gold is missing; there are choices, query"),
        (CHOICE | {"gold": 2}, r"item 0: gold = 2 is none of its 2 choices, numbered from 0"),
        (CHOICE | {"gold": -1}, r"gold = -1 is none of its 2 choices"),
        (CHOICE | {"gold": "B"}, r"gold is a text, but must be the number of a choice"),
        (CHOICE | {"choices": "ab"}, "choices is a text, but must be a list of texts"),
        (CHOICE | {"choices": ["4"], "gold": 0}, "item 0: 1 choices; a choice is between two or more"),
        (CHOICE | {"choices": ["", "4"]}, "item 0: one of its texts is empty"),
        ({"text": ""}, "item 0: one of its texts is empty"),
        ({"text": 7}, "text is a number, but must be a text"),
        ({"prompt": " ", "answer": "x"} | {"prompt": ""}, "item 0: the prompt is empty"),
        ({"prompt": "x", "answer": None}, "answer is null, but must be a text or a number"),
        ({"prompt": "x", "answer": ["a"]}, "answer is a list, but must be a text or a number"),
        ({"prompt": "x", "answer": " "}, "answer is empty, so that nothing can be the right answer"),
        ({"prompt": "x", "answer": float("nan")}, "answer is nan, which is no answer"),
        ({"prompt": "\ud800", "answer": "x"}, r"item 0: half a surrogate pair"),
        (CHOICE | {"choices": ["a", "b\udfff"]}, r"item 0: half a surrogate pair"),
        ({"a": 1, "b": 2}, r"its fields \(a, b\) fit no kind of task"),
        ([1], r"items\.jsonl, line 1: not a JSON object, but list"),
    ],
)
def test_what_is_no_item_is_refused_in_a_sentence(record: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        list(task_of(tmp_path, [record]).items())


def test_what_is_no_file_of_items_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    (tmp_path / "long.jsonl").write_text('{"text": ' + "9" * 5_000 + "}")
    whole = gzip.compress(b'{"text": "a"}\n' * 99)
    (tmp_path / "torn.jsonl.gz").write_bytes(whole[:20] + b"\xff" * 9 + whole[29:])
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 99)[:-9])
    for name, sentence in (
        ("empty.jsonl", "no items in it"), ("broken.jsonl", "line 2: not valid JSON"),
        ("deep.jsonl", "line 1: JSON that is nested too deeply"), ("long.jsonl", "line 1: not valid JSON"),
        ("torn.jsonl.gz", "cannot be read"), ("cut.jsonl.gz", "cannot be read"), ("none.jsonl", "no such file"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            jsonl_task("x", tmp_path / name, Shape())


def test_a_generation_is_right_to_the_letter_or_leniently_in_its_last_line(tmp_path: Path) -> None:
    task = task_of(tmp_path, [{"prompt": "Capital of France?", "answer": "Paris"}])
    item = only(task)
    assert task.score(item, " Paris\n").metrics == {"exact_match": 1.0, "exact_match_lenient": 1.0}
    assert task.score(item, "I think.\nIt is Paris.").metrics == {"exact_match": 0.0, "exact_match_lenient": 1.0}
    assert task.score(item, "Paris? No:\nRome").metrics == {"exact_match": 0.0, "exact_match_lenient": 0.0}
    five = only(task_of(tmp_path, [{"prompt": "2 + 3?", "answer": "5"}]))
    said = ("It is 15.", "0.5", "-5", "So: 5.", "$5")
    lenient = {each: task.score(five, each).metrics["exact_match_lenient"] for each in said}
    assert lenient == {"It is 15.": 0.0, "0.5": 0.0, "-5": 0.0, "So: 5.": 1.0, "$5": 1.0}


@pytest.mark.parametrize(
    ("answer", "reply", "is_right"),
    [
        (4, "4.", True), (4, "It is **4", True), (4, "x = $4", True), (4, "14", False), (4, "-4", False),
        (4, "0.4", False), (4, "x4", False), ("on", "person", False), ("person", "a person", True),
        ("是", "答案是", True), (".", "no", False), ("-4", "x = -4", True),
    ],
)  # fmt: skip
def test_leniently_right_is_no_end_of_another_word(answer: Any, reply: str, is_right: bool, tmp_path: Path) -> None:
    task = task_of(tmp_path, [{"prompt": "?", "answer": answer}])
    assert task.score(only(task), reply).metrics["exact_match_lenient"] == is_right
