"""Battles of a plan: drawn as stated, stored as they are cast, gone on with, and never half of one."""

import asyncio
import random
from pathlib import Path

from tests.arena.battle.plans import MODELS, plan_in
from tests.arena.tamper import KEY
from tests.providers.loopback import OK, Asked, Part, loopback, reply

from inhouse.arena.battle.plan import Plan, Prompt, read_prompts
from inhouse.arena.battle.run import Outcome, _with_endpoints, fight_with
from inhouse.arena.battle.voters import Voter, verifier
from inhouse.arena.leaderboard import Options, make_leaderboard, read_votes
from inhouse.arena.tampering import check_log
from inhouse.arena.vote_log import VoteLog
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.providers.errors import ServerFault


def by_name(name: str):  # type: ignore[no-untyped-def]
    """Adds rightly three times of four if good, once of four if not; a pure function of what is asked."""

    async def ask(prompt: str) -> str:
        await asyncio.sleep(0)
        a, b = (int(word.strip("?.,")) for word in prompt.split() if word.strip("?.,").isdigit())
        is_right = random.Random(f"{name}/{prompt}").random() < (0.75 if name == "good" else 0.25)
        return f"Answer: {a + b if is_right else a + b + 1}"

    return ask


def fought(plan: Plan, asks: list, voter: Voter | None = None, prompts: tuple[Prompt, ...] | None = None) -> Outcome:
    log = VoteLog(plan.votes, plan.head, KEY)
    prompts = prompts or read_prompts(plan)
    return asyncio.run(fight_with(plan, prompts, log, asks, voter or verifier(ENVIRONMENTS["addition"])))


def stored(plan: Plan) -> list[dict]:
    checked = check_log(plan.votes, plan.head, KEY)
    checked.refuse()
    return [entry.body for entry in checked.entries if entry.kind == "vote"]


def test_a_verifier_votes_and_the_better_model_is_on_top(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, battles=60)
    outcome = fought(plan, [by_name("good"), by_name("bad"), by_name("rare")])
    assert outcome.sentence() == "60 votes stored, 0 were there before"
    battles, notes = read_votes(plan.votes, plan.head, plan.key)
    board = make_leaderboard(battles, Options(voter="judges")).board
    assert board.rows[0].model == "good" and board.rows[0].battles > board.rows[2].battles
    assert "as they were written" in notes[0]


def test_what_was_stored_before_is_not_fought_again_and_the_whole_is_as_in_one_go(tmp_path: Path) -> None:
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    for folder in (whole, parts):
        folder.mkdir()
    asks = [by_name("good"), by_name("bad"), by_name("rare")]
    fought(plan_in(whole), asks)
    fought(plan_in(parts, battles=15), asks)

    async def down(prompt: str) -> str:
        raise ServerFault("the endpoint is down")

    outcome = fought(plan_in(parts), [asks[0], down, asks[2]])
    assert outcome.before == 15 and 0 < outcome.failed["the endpoint is down"] <= 25 - outcome.stored
    assert "battles failed: the endpoint is down" in outcome.sentence()
    fought(plan_in(parts), asks)
    key = "battle"
    assert sorted(map(str, stored(plan_in(whole)))) == sorted(map(str, stored(plan_in(parts))))
    assert len({vote[key] for vote in stored(plan_in(parts))}) == 40
    assert fought(plan_in(parts), asks).sentence() == "0 votes stored, 40 were there before"


def test_with_an_endpoint_that_is_down_it_ends_soon_and_says_so(tmp_path: Path) -> None:
    async def down(prompt: str) -> str:
        raise ServerFault("the endpoint is down")

    outcome = fought(plan_in(tmp_path, battles=500), [down, down, down])
    assert sum(outcome.failed.values()) <= 20 + 3 and not outcome.stored
    assert "given up after 20 failures in a row; the same command goes on" in outcome.sentence()


def test_a_judge_without_a_verdict_casts_no_vote(tmp_path: Path) -> None:
    async def silent(prompt: Prompt, left: str, right: str) -> None:
        return None

    plan = plan_in(tmp_path, battles=5)
    outcome = fought(plan, [by_name("good")] * 3, silent)
    assert outcome.sentence() == ("0 votes stored, 0 were there before; "
                                  "5 battles without a vote: the judge gave no verdict")  # fmt: skip
    assert stored(plan) == []


def test_over_http_a_judge_votes_and_malformed_answers_are_counted(tmp_path: Path) -> None:
    def answer(asked: Asked) -> list[Part]:
        question = asked.body["messages"][0]["content"]
        said = "[[A]]" if asked.body["model"] == "judge" else f"I am {asked.body['model']}: {question}"
        message = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return reply(200, OK | {"choices": [message]}) if asked.body["model"] != "bad" else reply(400, b"<html>")

    async def run() -> tuple[Plan, Outcome]:
        async with loopback(answer=answer) as there:
            models = [model | {"url": there.url, "weight": 1.0} for model in MODELS]
            (tmp_path / "prompts.jsonl").write_text('{"prompt": "Hello?", "category": "chat"}\n{"prompt": "Why?"}\n')
            plan = plan_in(tmp_path, models=models, environment=None, prompts=tmp_path / "prompts.jsonl", battles=24,
                           judge={"name": "judge", "url": there.url})  # fmt: skip
            return plan, await _with_endpoints(plan, read_prompts(plan), KEY)

    plan, outcome = asyncio.run(run())
    votes = stored(plan)
    assert outcome.stored == len(votes) > 0 and outcome.stored + sum(outcome.failed.values()) == 24
    assert {vote["winner"] for vote in votes} == {"tie"} and votes[0]["orders"] == ["left", "right"]
    assert {vote["prompt"]: vote.get("category") for vote in votes} == {"Hello?": "chat", "Why?": None}
    assert votes[0]["left_text"].startswith("I am ")
    _, notes = read_votes(plan.votes, plan.head, plan.key)
    assert f"{len(votes)} went to the answer shown first" in notes[1]
