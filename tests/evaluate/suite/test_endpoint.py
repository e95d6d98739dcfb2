"""An endpoint on a suite: right scores whatever faults it has, nothing asked twice, all of it booked."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench import tiny_server
from pydantic import SecretStr
from tests.providers.loopback import RESET, USAGE, Asked, Loopback, Part, chunk, in_thread, reply, stream

from inhouse.api.settings import ServeSettings
from inhouse.cli.app import main
from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings
from inhouse.environments.product.registry import SUITES
from inhouse.environments.product.suite import documents
from inhouse.evaluate.results import read_results, read_scores
from inhouse.evaluate.settings import EndpointSettings
from inhouse.evaluate.suite.endpoint import Target, evaluate_endpoint
from inhouse.evaluate.suite.reused import asked_hash
from inhouse.evaluate.suite.suite import Suite, open_suite
from inhouse.providers.retries import Retries
from inhouse.providers.settings import LimitSettings

KEY = "sk-very-secret-1234567890"
SETTINGS, LIMITS = EndpointSettings(concurrency=4), LimitSettings(first_token_timeout=20.0, retries=3)
PRICES = '[[price]]\nmodel = "m"\ninput = 1.0\noutput = 10.0\n'


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before asking again; that the wait is right, others test."""
    monkeypatch.setattr(Retries, "_wait", lambda self, error, number: 0.0)


def solver(name: str) -> Callable[[Asked], list[Part]]:
    """Answers every question of a product suite rightly."""
    suite = SUITES[name]
    known = {each["messages"][-1]["content"]: suite.solve(each["expected"]) for each in documents(suite)}

    def answer(asked: Asked) -> list[Part]:
        text = known[asked.body["messages"][-1]["content"]]
        return stream(chunk(text[:3]), chunk(text[3:]), chunk(finish="stop"), USAGE)

    return answer


def suite_of(task: str, limit: int = 8) -> Suite:
    return open_suite("product", only=(f"product/{task}",), limit=limit)


def ask(there: Loopback, suite: Suite, folder: Path, limits: LimitSettings = LIMITS, **changes: Any) -> Any:
    target = Target(there.url, "m", "openai", SecretStr(KEY))
    settings = SETTINGS.model_copy(update=changes)
    return evaluate_endpoint(target, suite, folder, settings, limits)


def test_right_answers_are_worth_1_and_all_is_booked(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    with in_thread(answer=solver("chat")) as there:
        scores, took = ask(there, suite_of("chat"), tmp_path / "r", prices=tmp_path / "prices.toml")
    assert scores["product/chat/score"].value == 1
    assert (took.tokens_in, took.tokens_out, took.cost) == (8 * 7, 8 * 3, pytest.approx(8 * (7 + 30) / 1e6))
    about, answers = read_results(tmp_path / "r")
    assert (about["model"], about["kind"], about["url"]) == ("m", "endpoint", f"{there.url}/v1")
    assert about["answered_by"] == ["m-2"]
    assert [answer.number for answer in answers] == list(range(8))
    asked = [asked_hash(item, "", is_chat=True) for item in suite_of("chat").tasks[0].items()]
    assert [answer.prompt_hash for answer in answers] == asked  # the same as of a folder that has a template
    assert all(
        answer.metrics == {"score": 1, "exact": 1, "unparsable": 0, "refused": 0, "cut_off": 0} for answer in answers
    )
    assert read_scores(tmp_path / "r") == scores
    assert not any(KEY in path.read_text() for path in (tmp_path / "r").iterdir())


def test_without_a_price_or_without_usage_costs_are_unknown_not_nothing(tmp_path: Path) -> None:
    with in_thread(stream(chunk("x", "stop"))) as there:
        _, took = ask(there, suite_of("chat", 2), tmp_path / "r")
    assert took == (None, None, None)
    assert took.words == "tokens: unknown in and unknown out; cost: unknown"
    assert {answer.cost for answer in read_results(tmp_path / "r").answers} == {None}


FAULTS: list[list[Part]] = [
    reply(429, {"error": {"message": "slow"}}, retry_after="0"),
    reply(500, b"<html>oops"),
    stream(chunk("CITY: Rome")),  # cut: what came of it counts for nothing
    stream(chunk("CITY"), b"data: {not json\n\n"),
    [RESET],
]


def test_faults_are_asked_again_and_change_no_score(tmp_path: Path) -> None:
    right, tries = solver("chat"), dict[str, int]()

    def answer(asked: Asked) -> list[Part]:
        text = json.dumps(asked.body)
        tries[text] = tries.get(text, 0) + 1
        place = len(tries) + tries[text]
        return right(asked) if tries[text] > 2 else FAULTS[place % len(FAULTS)]

    with in_thread(answer=answer) as there:
        scores, _ = ask(there, suite_of("chat"), tmp_path / "r")
    assert scores["product/chat/score"].value == 1
    assert set(tries.values()) == {3}


def test_what_fails_for_good_is_said_and_only_that_is_asked_again(tmp_path: Path) -> None:
    right = solver("chat")
    broken = {documents(SUITES["chat"])[5]["messages"][-1]["content"]}

    def answer(asked: Asked) -> list[Part]:
        return reply(503, b"") if asked.body["messages"][-1]["content"] in broken else right(asked)

    with in_thread(answer=answer) as there:
        with pytest.raises(
            ValueError, match=r"1 of 8 questions got no answer \(1 times server.*503.*run the same again"
        ):
            ask(there, suite_of("chat"), tmp_path / "r")
        assert not (tmp_path / "r" / "answers.jsonl").exists()
        broken.clear()
        num_asked = len(there.asked)
        scores, _ = ask(there, suite_of("chat"), tmp_path / "r")
        assert len(there.asked) == num_asked + 1
    assert scores["product/chat/score"].value == 1


def test_an_item_that_stands_twice_is_asked_twice_and_booked_twice(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "a", "answer": "b"}\n' * 2)
    with in_thread(stream(chunk("b"), chunk(finish="stop"), USAGE)) as there:
        scores, took = ask(there, open_suite(str(tmp_path / "t.jsonl")), tmp_path / "r")
        assert (len(there.asked), scores["t/exact_match"].count, took.tokens_in) == (2, 2, 14)
        ask(there, open_suite(str(tmp_path / "t.jsonl")), tmp_path / "r")
        assert len(there.asked) == 2


def test_answers_of_a_model_that_changed_in_between_show_it(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES)
    right = solver("chat")
    with in_thread(answer=right) as there:
        ask(there, suite_of("chat", 4), tmp_path / "r")
    text = (tmp_path / "r" / "answers.jsonl").read_text()
    (tmp_path / "r" / "answers.jsonl").write_text(text.replace('"m-2"', '"m-1"'))
    about = json.loads((tmp_path / "r" / "about.json").read_text())
    with in_thread(answer=right) as other:
        (tmp_path / "r" / "about.json").write_text(json.dumps(about | {"url": f"{other.url}/v1"}))
        _, took = ask(other, suite_of("chat", 5), tmp_path / "r", prices=tmp_path / "prices.toml")
    assert len(other.asked) == 1
    assert read_results(tmp_path / "r").about["answered_by"] == ["m-1", "m-2"]
    assert took.cost == pytest.approx(5 * (7 + 30) / 1e6)  # those that were asked without a price have one now


def test_an_endpoint_that_is_down_is_not_asked_all(tmp_path: Path) -> None:
    with in_thread([RESET]) as there, pytest.raises(ValueError, match="64 of 64 questions got no answer"):
        ask(there, suite_of("chat", 64), tmp_path / "r", LIMITS.model_copy(update={"retries": 0}))
    assert len(there.asked) <= 10 + 4


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": {"message": f"bad key {KEY}"}}, "401: bad key .key."),
        (404, {"error": {"message": "no model m"}}, "404: no model m"),
        (400, {"error": {"message": "temperature must be 1"}}, "temperature must be 1"),
    ],
)
def test_what_will_be_refused_every_time_ends_it(status: int, body: dict, words: str, tmp_path: Path) -> None:
    with in_thread(reply(status, body)) as there, pytest.raises(ValueError, match=words) as error:
        ask(there, suite_of("chat", 64), tmp_path / "r")
    assert len(there.asked) <= 4
    assert KEY not in str(error.value)


def test_a_refused_question_is_wrong_and_counted(tmp_path: Path) -> None:
    right = solver("chat")
    bad = {each["messages"][-1]["content"] for each in documents(SUITES["chat"], 2)}

    def answer(asked: Asked) -> list[Part]:
        refusal = reply(400, {"error": {"message": "no", "code": "content_filter"}})
        return refusal if asked.body["messages"][-1]["content"] in bad else right(asked)

    with in_thread(answer=answer) as there:
        scores, _ = ask(there, suite_of("chat"), tmp_path / "r")
    assert scores["product/chat/score"].value == pytest.approx(6 / 8)
    assert scores["product/chat/refused"].value == pytest.approx(2 / 8)


def test_calls_of_tools_reach_the_checker(tmp_path: Path) -> None:
    documents_ = documents(SUITES["tool_use"], 4)
    known = {each["messages"][-1]["content"]: each["expected"] for each in documents_}

    def answer(asked: Asked) -> list[Part]:
        expected = known[asked.body["messages"][-1]["content"]]
        assert "tools" not in asked.body["messages"][0]
        assert {"type", "function"} == asked.body["tools"][0].keys()
        chunks: list[Part | dict] = [chunk(" ".join(expected["says"]))]
        for number, (name, arguments) in enumerate(expected["calls"]):
            call = {"index": number, "id": f"c{number}", "function": {"name": name, "arguments": json.dumps(arguments)}}
            chunks.append({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]})
        return stream(*chunks, chunk(finish="tool_calls"), USAGE)

    with in_thread(answer=answer) as there:
        scores, _ = ask(there, suite_of("tool_use", 4), tmp_path / "r")
    assert scores["product/tool_use/score"].value == 1


def test_tasks_that_need_log_likelihoods_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"context": "a", "choices": ["b", "c"], "gold": 0}\n')
    with in_thread([RESET]) as there, pytest.raises(ValueError, match=r"multiple_choice.*no log-likelihoods"):
        ask(there, open_suite(str(tmp_path / "t.jsonl")), tmp_path / "r")
    assert there.asked == []


@pytest.fixture(scope="module")
def tiny() -> Any:
    """The address of `inhouse serve`'s own application over a real model."""
    tokenizer = tiny_server.new_tokenizer(384)
    engine = Engine(tiny_server.new_model(tokenizer, 4096), tokenizer, EngineSettings(max_sequences=8))
    with tiny_server.running(engine, tokenizer, ServeSettings(shutdown_timeout=1)) as (url, _):
        yield url


@pytest.mark.parametrize("face", ["openai", "anthropic"])
def test_our_own_server_is_an_endpoint_like_any_other(
    face: str, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["inhouse", "eval", tiny, "--model", "tiny", "--suite", "product", "--task", "product/extraction"]
    options = ["--face", face, "--limit", "3", "--max-tokens", "5", "--output", str(tmp_path / "r")]
    options += ["--scores", str(tmp_path / "scores.jsonl")]
    monkeypatch.setattr(sys, "argv", command + options)
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert not end.value.code, said.err
    assert "product/extraction/score" in said.out
    assert "no price of tiny" in said.err
    answers = read_results(tmp_path / "r").answers
    assert [answer.tokens_out for answer in answers] == [5, 5, 5]
    assert all(answer.tokens_in > 100 and answer.metrics["cut_off"] for answer in answers)
    (row,) = map(json.loads, (tmp_path / "scores.jsonl").read_text().splitlines())
    assert (row["task"], row["model"], row["metric"], row["n"]) == ("product/extraction", "tiny", "score", 3)
    assert (row["cost"], row["tokens_out"]) == (None, 15)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1:1", "--suite", "product"], "name one with --model"),
        (["http://127.0.0.1:1", "--model", "m"], "--suite"),
        (["http://127.0.0.1:1", "--model", "m", "--suite", "product", "--face", "grok"], 'no dialect "grok"'),
        (["http://127.0.0.1:1", "--model", "m", "--suite", "product", "--api-key-env", "NO_KEY"], "NO_KEY"),
        (["http://a:b@127.0.0.1:1", "--model", "m", "--suite", "product"], "no user, password"),
        (["http://127.0.0.1:1", "--model", "m", "--suite", "product", "--concurrency", "0"], "--concurrency"),
        (["http://127.0.0.1:1", "--model", "m", "--suite", "product", "--dtype", "bf16"], "--dtype belongs to models"),
        (["runs/x", "--model", "m", "--suite", "product"], "--model belongs to an endpoint"),
        (["runs/x", "--temperature", "1", "--suite", "product"], "--temperature belongs to an endpoint"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["inhouse", "eval", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_settings_of_endpoints_in_the_environment_are_no_fault_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INHOUSE_RETRIES", "3")
    monkeypatch.setattr(sys, "argv", ["inhouse", "eval", "runs/x", "--suite", "product"])
    with pytest.raises(SystemExit):
        main()
    assert "runs/x: no such folder" in capsys.readouterr().err
