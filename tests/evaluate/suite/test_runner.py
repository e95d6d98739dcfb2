"""Answers are what the model gives alone, come in the items' order, and are not asked for twice."""

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.bits_per_byte import document_bits
from inhouse.evaluate.results import Answer, ResultsWriter, read_results
from inhouse.evaluate.suite.reused import asked_hash
from inhouse.evaluate.suite.runner import Runner
from inhouse.evaluate.tasks.jsonl import Shape, jsonl_task
from inhouse.evaluate.tasks.task import Task
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.posttrain.opened_model import Generation, OpenedModel

OF = {"model": "m", "kind": "folder", "digest": "1", "settings": {}, "inhouse": "0"}
CHOICES = [
    {"query": "import argparse\nparser = ", "choices": ["ArgumentParser()", "None", "loads(text)"], "gold": 0},
    {"query": "", "choices": ["return value", "value return"], "gold": 1},
    {"query": "def f(x): ", "choices": ["pass", "x"], "gold": 1},
]  # fmt: skip


def task_of(folder: Path, records: Sequence[Any], **shape: Any) -> Task:
    (folder / "items.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return jsonl_task("items", folder / "items.jsonl", Shape(**shape))


def answers_of(opened: OpenedModel, task: Task, folder: Path) -> list[Answer]:
    with ResultsWriter(folder / "results", OF) as writer:
        answers = Runner(opened).answer(task, list(task.items()), writer)
        writer.finish(answers, {})
    return answers


@pytest.fixture
def opened(model: Transformer, tokenizer: Tokenizer) -> OpenedModel:
    return OpenedModel(copy.deepcopy(model), tokenizer, None, Generation())  # it may be packed


@torch.inference_mode()
def likelihood(opened: OpenedModel, context: str, text: str) -> float:
    ids = opened.tokenizer.encode(context.rstrip()) or [opened.tokenizer.end_of_document]
    whole = opened.tokenizer.encode(context + text)
    whole = whole if context else ids + whole
    tokens = torch.tensor([whole])
    logprobs = opened.model.logits(opened.model(tokens[:, :-1]).hidden_BTD)[0].double().log_softmax(-1)
    return logprobs.gather(1, tokens[0, 1:, None])[len(ids) - 1 :].sum().item()


def test_choices_are_worth_what_each_is_alone(opened: OpenedModel, tmp_path: Path) -> None:
    task = task_of(tmp_path, CHOICES, delimiter="")
    answers = answers_of(opened, task, tmp_path)
    assert read_results(tmp_path / "results").answers == answers
    for answer, record in zip(answers, CHOICES, strict=True):
        expected = [likelihood(opened, str(record["query"]), choice) for choice in record["choices"]]
        assert [choice.log_likelihood for choice in answer.choices] == pytest.approx(expected, abs=1e-3)
        assert answer.output == record["choices"][expected.index(max(expected))]
        assert answer.metrics["accuracy"] == (answer.output == answer.gold)
        assert [choice.bytes for choice in answer.choices] == [len(choice) for choice in record["choices"]]


def test_one_text_behind_several_contexts(opened: OpenedModel, tmp_path: Path) -> None:
    record = {"context_options": ["import json", "import re", "import json"], "continuation": "json.loads", "gold": 1}
    (answer,) = answers_of(opened, task_of(tmp_path, [record]), tmp_path)
    expected = [likelihood(opened, context, " json.loads") for context in record["context_options"]]
    assert [choice.log_likelihood for choice in answer.choices] == pytest.approx(expected, abs=1e-3)


def test_texts_are_read_like_documents_those_longer_than_the_context_too(opened: OpenedModel, tmp_path: Path) -> None:
    texts = ["import argparse", "parser = argparse.ArgumentParser(description='many words')\n" * 60]
    assert len(opened.tokenizer.encode(texts[1])) > opened.model.config.max_position
    answers = answers_of(opened, task_of(tmp_path, [{"text": text} for text in texts]), tmp_path)
    bits = document_bits(opened.model, opened.tokenizer, texts, opened.model.config.max_position)
    assert [answer.metrics["bits"] for answer in answers] == pytest.approx(bits, rel=1e-4)
    assert [answer.metrics["bytes"] for answer in answers] == [len(text) for text in texts]


def test_contexts_that_are_too_long_lose_their_beginning_and_say_so(opened: OpenedModel, tmp_path: Path) -> None:
    record = {"query": "parser = argparse.ArgumentParser()\n" * 100, "choices": ["return", "import"], "gold": 0}
    (answer,) = answers_of(opened, task_of(tmp_path, [record]), tmp_path)
    assert answer.metrics["truncated"] == 1.0
    assert answer.tokens_in <= opened.model.config.max_position


def test_a_choice_that_is_longer_than_the_context_is_refused(opened: OpenedModel, tmp_path: Path) -> None:
    record = {"query": "x", "choices": ["import argparse " * 300, "b"], "gold": 0}
    with pytest.raises(
        ValueError, match=r"task items, item 0: a choice has \S+ tokens, but the model's context is 256"
    ):
        answers_of(opened, task_of(tmp_path, [record]), tmp_path)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {".lock"}


@pytest.mark.parametrize("template", [None, CHAT_TEMPLATE], ids=["base", "chat"])
def test_generations_are_asked_as_the_model_was_taught(
    template: str | None, opened: OpenedModel, tmp_path: Path
) -> None:
    task = task_of(tmp_path, [{"prompt": "import", "answer": "json"}, {"prompt": "def " * 300, "answer": "x"}])
    answers = answers_of(opened._replace(chat_template=template), task, tmp_path)
    assert ("<|im_start|>user\nimport<|im_end|>" in answers[0].prompt) == (template is not None)
    assert answers[0].prompt_hash == asked_hash(next(task.items()), answers[0].prompt, template is not None)
    assert "exact_match" in answers[0].metrics and answers[0].tokens_out > 0
    assert answers[1].metrics["truncated"] == 1.0


def test_a_suite_that_changed_is_not_answered_by_what_it_was(opened: OpenedModel, tmp_path: Path) -> None:
    record = CHOICES[0] | {
        "best": 1,
        "others": ["import", "return"],
        "passage": "p",
        "body": "import json",
        "text": "x",
    }
    whole = answers_of(opened, task_of(tmp_path, [record]), tmp_path)
    for shape in (
        {"fields": {"gold": "best"}}, {"fields": {"choices": "others"}}, {"fields": {"cluster": "passage"}},
        {"kind": "log_likelihood"}, {"kind": "log_likelihood", "fields": {"text": "body"}},
    ):  # fmt: skip
        task = task_of(tmp_path, [record], **shape)
        (again,), (fresh,) = (answers_of(opened, task, folder) for folder in (tmp_path, tmp_path / str(shape)))
        assert again._replace(seconds=0.0) == fresh._replace(seconds=0.0) != whole[0]._replace(seconds=0.0)
    guessed = replace(task_of(tmp_path, [record]), chance=0.5)
    assert answers_of(opened, guessed, tmp_path)[0].metrics["centred"] in (-1.0, 1.0)


def test_marks_of_an_overlap_that_nobody_looked_for_are_not_kept(opened: OpenedModel, tmp_path: Path) -> None:
    task = task_of(tmp_path, CHOICES)
    answers = answers_of(opened, task, tmp_path)
    with ResultsWriter(tmp_path / "results", OF) as writer:
        writer.finish([a._replace(metrics=a.metrics | {"touched": 1.0, "overlap": 1.0}) for a in answers], {})
    assert answers_of(opened, task, tmp_path) == answers


def test_what_is_answered_is_not_asked_again(
    opened: OpenedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answers_of(opened, task_of(tmp_path, CHOICES), tmp_path / "other")
    with pytest.raises(KeyboardInterrupt), ResultsWriter(tmp_path / "results", OF) as writer:
        task = task_of(tmp_path, CHOICES[1:2])
        Runner(opened).answer(task, list(task.items()), writer)
        raise KeyboardInterrupt
    asked = []
    choose = Runner._choose
    monkeypatch.setattr(Runner, "_choose", lambda *given: asked.extend(given[2]) or choose(*given))
    answers = answers_of(opened, task_of(tmp_path, CHOICES), tmp_path)
    assert [number for number, _ in asked] == [0, 2]
    same = [answer._replace(seconds=0.0) for answer in answers]
    assert [a.metrics for a in same] == [pytest.approx(a.metrics) for a in whole]
    assert [a.number for a in same] == [0, 1, 2]


def test_what_was_answered_is_judged_as_the_task_is_now(opened: OpenedModel, tmp_path: Path) -> None:
    (first,) = answers_of(opened, task_of(tmp_path, [CHOICES[2] | {"other": 0}]), tmp_path)
    task = task_of(tmp_path, [CHOICES[2] | {"other": 0}], fields={"gold": "other"})
    (again,) = answers_of(opened, task, tmp_path)
    assert (first.gold, again.gold, again.choices) == ("x", "pass", first.choices)
    assert again.metrics["accuracy"] == 1 - first.metrics["accuracy"]
