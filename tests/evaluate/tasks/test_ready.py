"""The tasks that come with inhouse read files of the shape that their authors gave them, and judge as these do."""

import gzip
import json
import re
from pathlib import Path

import pytest

from inhouse.evaluate.tasks import core
from inhouse.evaluate.tasks.ready import READY, ready_names, ready_task


def write_lines(path: Path, *records: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(record) + "\n" for record in records).encode()))


def test_core_tasks_have_their_delimiter_and_examples(tmp_path: Path) -> None:
    records = [{"query": f"Question: {n}?\n", "choices": ["yes", "no"], "gold": n % 2} for n in range(12)]
    write_lines(tmp_path / "core" / "world_knowledge" / "arc_easy.jsonl.gz", *records)
    task = ready_task("core/arc_easy", tmp_path, limit=3)
    items = list(task.items())
    assert len(items) == 3 and task.chance == 0.25
    context, choice = items[1].pairs[1]
    assert choice == "no" and re.search(r"\?\nAnswer: (yes|no)\nQuestion: 1\?\nAnswer: $", context)
    assert context.count("\nAnswer: ") == 11 and items[1].document == records[1]
    assert task.centred_metric == "accuracy_per_token"  # as llm-foundry chooses: by the mean over a choice's tokens
    assert set(core.NAMES) <= set(READY)


def test_gsm8k_stands_behind_five_worked_problems_and_is_judged_strictly_and_leniently(tmp_path: Path) -> None:
    worked = [{"question": f"{n} + 1?", "answer": f"It is <<{n}+1={n + 1}>>.\n#### {n + 1}"} for n in range(7)]
    write_lines(tmp_path / "gsm8k" / "train.jsonl.gz", *worked)
    write_lines(tmp_path / "gsm8k" / "test.jsonl.gz", {"question": "600 + 634?", "answer": "So.\n#### 1,234"})
    task = ready_task("gsm8k", tmp_path)
    (item,) = task.items()
    assert item.answer == "1,234" and item.context.count("####") == 5
    assert item.context.endswith("Question: 600 + 634?\nAnswer:")
    assert task.score(item, "so\n#### $1,234.").metrics == {"exact_match": 1, "exact_match_lenient": 1, "unparsable": 0}
    assert task.score(item, "That is 1234.").metrics == {"exact_match": 0, "exact_match_lenient": 1, "unparsable": 1}
    assert task.score(item, "#### 12345").metrics == {"exact_match": 0, "exact_match_lenient": 0, "unparsable": 0}
    assert task.score(item, "no idea").metrics == {"exact_match": 0, "exact_match_lenient": 0, "unparsable": 1}


def test_bbh_stands_behind_its_worked_examples(tmp_path: Path) -> None:
    (tmp_path / "bbh" / "bbh").mkdir(parents=True)
    (tmp_path / "bbh" / "cot-prompts").mkdir()
    examples = {"canary": "x", "examples": [{"input": "Is it?\nOptions:\n(A) yes", "target": "(A)"}]}
    (tmp_path / "bbh" / "bbh" / "snarks.json").write_text(json.dumps(examples))
    (tmp_path / "bbh" / "cot-prompts" / "snarks.txt").write_text("canary\n-----\nSay which.\n\nQ: a\nA: b\n")
    task = ready_task("bbh/snarks", tmp_path)
    (item,) = task.items()
    assert item.context.startswith("Say which.") and item.context.endswith("(A) yes\nA: Let's think step by step.")
    assert task.score(item, "Thus. So the answer is (A).\n").metrics == {
        "exact_match": 1, "exact_match_lenient": 1, "unparsable": 0,
    }  # fmt: skip
    assert task.score(item, "the answer is A").metrics["exact_match"] == 0
    assert task.score(item, "the answer is A").metrics["exact_match_lenient"] == 1
    (tmp_path / "bbh" / "bbh" / "snarks.json").write_text("[]")
    with pytest.raises(ValueError, match="it has no list of examples"):
        list(ready_task("bbh/snarks", tmp_path).items())


def test_ifeval_and_human_eval_ask_what_their_files_say(tmp_path: Path) -> None:
    row = {"prompt": "Say it without a comma.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    write_lines(tmp_path / "ifeval" / "input_data.jsonl.gz", row)
    task = ready_task("ifeval", tmp_path)
    (item,) = task.items()
    assert task.score(item, "It.").metrics["credit"] == task.score(item, "It.").metrics["exact_match"] == 1.0
    assert task.score(item, "It, well.").metrics["exact_match"] == 0.0
    code = {"task_id": "HumanEval/0", "prompt": "def one():\n", "entry_point": "one"}
    code |= {"canonical_solution": "    return 1\n", "test": "def check(candidate):\n    assert candidate() == 1\n"}
    write_lines(tmp_path / "humaneval" / "HumanEval.jsonl.gz", code)
    (item,) = ready_task("humaneval", tmp_path).items()
    assert item.prompt == "def one():\n" and "Complete the following Python function" in item.as_chat()[0]["content"]


def test_every_file_of_minimal_pairs_is_a_task(tmp_path: Path) -> None:
    for name in ("agreement", "binding"):
        write_lines(tmp_path / "blimp" / f"{name}.jsonl.gz", {"sentence_good": "a", "sentence_bad": "b"})
        (tmp_path / "blimp" / f"{name}.jsonl").write_text(json.dumps({"sentence_good": "a b", "sentence_bad": "b a"}))
    assert ready_names("blimp/*", tmp_path) == ("blimp/agreement", "blimp/binding")
    assert ready_task("blimp/binding", tmp_path).kind == "minimal_pairs"


def test_unknown_tasks_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no task \"core/arc_esy\"; did you mean core/arc_easy\?"):
        ready_names("core/arc_esy", tmp_path)
    with pytest.raises(ValueError, match="no task's name begins with mmlu/; there are "):
        ready_names("mmlu/*", tmp_path)
    with pytest.raises(ValueError, match=r"copa\.jsonl: no such file .* --data names the folder"):
        ready_task("core/copa", tmp_path)
