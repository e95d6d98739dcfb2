"""Product suites as tasks: no file is needed, and a local model is asked the same, tools included."""

import pytest
from bench.tiny_server import new_tokenizer

from inhouse.evaluate.suite.suite import open_suite
from inhouse.evaluate.tasks.product import NAMES, product_task
from inhouse.posttrain.chat_template import encode_prompt


def test_the_ready_suite_has_all_of_them_and_needs_no_files() -> None:
    suite = open_suite("product", limit=2)
    assert tuple(task.name for task in suite.tasks) == NAMES
    assert {len(list(task.items())) for task in suite.tasks} == {2}
    assert {task.kind for task in suite.tasks} == {"generation"}


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_as_answer_is_worth_1(name: str) -> None:
    task = product_task(name, None, 8)
    for item in task.items():
        assert task.score(item, item.gold_text) == {"score": 1.0, "exact": 1.0, "unparsable": 0.0}
        assert task.score(item, "")["score"] == 0
        assert all(message["content"] in item.prompt for message in item.as_chat())


def test_tools_are_shown_to_a_local_model_by_its_template() -> None:
    tokenizer, task = new_tokenizer(384), product_task("product/tool_use", None, 3)
    for item in task.items():
        shown = tokenizer.decode(encode_prompt(tokenizer, item.as_chat()))
        tools = item.as_chat()[0]["tools"]
        assert tools
        assert all(tool["function"]["name"] in shown for tool in tools)
