"""Product suites as tasks: no file is needed, and a local model is asked the same, tools included."""

import copy
import json
from pathlib import Path

import pytest
from bench.tiny_server import new_tokenizer

from inhouse.checkpoint.model_folder import save_model
from inhouse.cli.app import main
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.results import read_results
from inhouse.evaluate.suite.suite import open_suite
from inhouse.evaluate.tasks.product import NAMES, product_task
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_prompt


def test_the_ready_suite_has_all_of_them_and_needs_no_files() -> None:
    suite = open_suite("product", limit=2)
    assert tuple(task.name for task in suite.tasks) == NAMES
    assert {len(list(task.items())) for task in suite.tasks} == {2}
    assert {task.kind for task in suite.tasks} == {"generation"}


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_as_answer_is_worth_1(name: str) -> None:
    task = product_task(name, None, 8)
    for item in task.items():
        assert task.score(item, item.gold_text).metrics == {"score": 1.0, "exact": 1.0, "unparsable": 0.0}
        assert task.score(item, "").metrics["score"] == 0
        assert all(message["content"] in item.prompt for message in item.as_chat())


def test_tools_are_shown_to_a_local_model_by_its_template() -> None:
    tokenizer, task = new_tokenizer(384), product_task("product/tool_use", None, 3)
    for item in task.items():
        shown = tokenizer.decode(encode_prompt(tokenizer, item.as_chat()))
        tools = item.as_chat()[0]["tools"]
        assert tools
        assert all(tool["function"]["name"] in shown for tool in tools)


def test_a_folder_is_asked_the_same_and_its_scores_stand_beside_those_of_endpoints(
    model: Transformer, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    tokenizer.save(folder)
    save_model(copy.deepcopy(model), folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    monkeypatch.chdir(tmp_path)
    asked = ["eval", "mine", "--suite", "product", "--task", "product/tool_use", "--limit", "2", "--scores", "s.jsonl"]
    monkeypatch.setattr("sys.argv", ["inhouse", *asked])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    answers = read_results(tmp_path / "results" / "mine" / "product").answers
    assert all("<tools>" in answer.prompt or "</tools>" in answer.prompt for answer in answers)
    (row,) = map(json.loads, (tmp_path / "s.jsonl").read_text().splitlines())
    assert (row["model"], row["metric"], row["n"], row["cost"]) == ("mine", "score", 2, None)
    assert row["tokens_in"] > 0
