"""Battles of a plan: drawn as stated, stored as they are cast, gone on with, and never half of one."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from tests.arena.tamper import KEY
from tests.providers.loopback import OK, Asked, Part, loopback, reply

from inhouse.arena.battle.draw import draw, pair_probabilities
from inhouse.arena.battle.plan import Plan, Prompt, identity, read_plan, read_prompts
from inhouse.arena.battle.run import Outcome, _with_endpoints, fight_with
from inhouse.arena.battle.voters import Verdict, Voter, judge, read_verdict, verifier
from inhouse.arena.leaderboard import Options, make_leaderboard, read_votes
from inhouse.arena.tampering import check_log
from inhouse.arena.vote_log import VoteLog
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.providers.errors import ServerFault

MODELS = [{"name": "good", "url": "http://x"}, {"name": "bad", "url": "http://x"},
          {"name": "rare", "url": "http://x", "weight": 0.25}]  # fmt: skip


def plan_in(folder: Path, **fields: object) -> Plan:
    (folder / "key").write_bytes(KEY)
    places = {"votes": folder / "votes.jsonl", "head": folder / "kept" / "head.json", "key": folder / "key"}
    given = {"battles": 40, "environment": "addition", "models": MODELS, "at_once": 3} | fields
    return Plan(**places, **given)  # type: ignore[arg-type]


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
    assert outcome.before == 15 and outcome.failed == {"the endpoint is down": 25 - outcome.stored}
    assert "battles failed: the endpoint is down" in outcome.sentence()
    fought(plan_in(parts), asks)
    key = "battle"
    assert sorted(map(str, stored(plan_in(whole)))) == sorted(map(str, stored(plan_in(parts))))
    assert len({vote[key] for vote in stored(plan_in(parts))}) == 40
    assert fought(plan_in(parts), asks).sentence() == "0 votes stored, 40 were there before"


def test_pairs_come_as_often_as_stated_and_both_ways_round() -> None:
    weights = [1.0, 1.0, 0.25]
    chances = pair_probabilities(weights)
    assert sum(chances.values()) == pytest.approx(1) and chances[0, 1] == pytest.approx(1 / 1.5)
    drawn = [draw(weights, 0, number) for number in range(6_000)]
    pairs = Counter(tuple(sorted((each.left, each.right))) for each in drawn)
    for pair, chance in chances.items():
        assert abs(pairs[pair] - 6_000 * chance) < 4 * (6_000 * chance * (1 - chance)) ** 0.5
    assert abs(sum(each.left < each.right for each in drawn) - 3_000) < 4 * 1_500**0.5
    assert all(each.probability == chances[tuple(sorted((each.left, each.right)))] for each in drawn)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("[[A]]", "B it is. [[B]]"), Verdict("left", ("left", "left"))),
        (("[[B]]", "[[A]]"), Verdict("right", ("right", "right"))),
        (("[[A]]", "[[A]]"), Verdict("tie", ("left", "right"))),  # whatever is shown first
        (("[[C]]", "[[C]]"), Verdict("tie", ("tie", "tie"))),
        (("I cannot say.", "[[A]]"), None),
    ],
)
def test_a_judge_is_asked_in_both_orders(said: tuple[str, str], expected: Verdict | None) -> None:
    asked = []

    async def ask(question: str) -> str:
        asked.append(question)
        return said[question.index("<answer_a>\nfour") < 0 if "<answer_a>\nfour" in question else 1]

    found = asyncio.run(judge(ask)(Prompt("2 + {2}?", None, None), "four", "five"))
    assert found == expected and len(asked) == 2
    assert all("2 + {2}?" in question for question in asked)


def test_the_last_verdict_counts() -> None:
    assert read_verdict("Not [[A]], but [[B]].") == "B" and read_verdict("[[D]]") is None


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


def test_who_depends_on_what(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    same, other = plan_in(tmp_path, battles=9, at_once=1), plan_in(tmp_path, seed=1)
    assert identity(plan, ()) == identity(same, ()) != identity(other, ())
    assert read_prompts(same) == read_prompts(plan)[:9]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"models": MODELS[:1]}, "1 models; a battle wants two"),
        ({"models": [MODELS[0], MODELS[0]]}, "two models are named good"),
        ({"environment": None}, "give prompts and a judge, or an environment"),
        ({"environment": "aditon"}, 'no environment "aditon"; did you mean "addition"'),
        ({"battles": 0}, "battles: input should be greater than 0"),
        ({"batles": 3}, "batles: extra inputs are not permitted"),
        ({"environment": None, "prompts": "p.jsonl", "judge": MODELS[1]}, "the judge is bad itself"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, lines: dict, said: str) -> None:
    given = {"votes": "v", "head": "h", "key": "k", "battles": 3, "environment": "addition", "models": MODELS} | lines
    text = "".join(
        f"{k} = {json.dumps(v)}\n" for k, v in given.items() if v is not None and k not in ("models", "judge")
    )
    tables = [("models", model) for model in given["models"]]  # type: ignore[attr-defined]
    text += "".join(f"[[{k}]]\n" + "".join(f"{a} = {json.dumps(b)}\n" for a, b in m.items()) for k, m in tables)
    if "judge" in given:
        text += "[judge]\n" + "".join(f"{a} = {json.dumps(b)}\n" for a, b in given["judge"].items())  # type: ignore[attr-defined]
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_plan(tmp_path / "plan.toml")


def test_a_file_of_prompts_is_read_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n\n{"prmpt": "b"}\n')
    plan = plan_in(tmp_path, environment=None, prompts=tmp_path / "p.jsonl", judge={"name": "j", "url": "http://y"})
    with pytest.raises(ValueError, match='line 3: no "prompt" with a text'):
        read_prompts(plan)
