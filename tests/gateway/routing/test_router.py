"""Decisions: hard constraints before quality, and what stands above both."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.routing_parts import CALLER, CODE, Says, chat, evidence, offer, target

from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.routing.evidence import Evidence, Finding, share_of
from inhouse.gateway.routing.explain import as_json, from_json, header
from inhouse.gateway.routing.offer import NoRules, Offer, Rollout
from inhouse.gateway.routing.router import Router
from inhouse.gateway.routing.settings import RoutingSettings, WeightSettings
from inhouse.gateway.spend.price import Price, rates_of
from inhouse.gateway.spend.settings import RateSettings
from inhouse.gateway.types import NANO, Caller, CallRefused, Decision, Target

GOOD, FAIR = offer("good", price=10.0), offer("fair")
TABLE = evidence({"good": (0.8, 500), "fair": (0.6, 500)})


class House(NoRules):
    """Rules that a test sets."""

    def __init__(self, **given: object) -> None:
        self.forbidden: dict[str, str] = given.get("forbidden", {})  # type: ignore[assignment]
        self.first_of = given.get("first")
        self.roll = given.get("rollout")
        self.down: set[Target] = given.get("down", set())  # type: ignore[assignment]

    def why_not(self, target: Target, task: str, now: float) -> str | None:
        return self.forbidden.get(target.model)

    def first(self, task: str, now: float) -> str | None:
        return self.first_of  # type: ignore[return-value]

    def rollout(self, task: str, conversation: str) -> Rollout | None:
        return self.roll  # type: ignore[return-value]

    def is_down(self, target: Target) -> bool:
        return target in self.down


def router(*offers: Offer, table: Evidence = TABLE, says: Says | None = None, **given: object) -> Router:
    rules = given.pop("rules", None)
    weights = RoutingSettings(per_second=0.0, **given)  # type: ignore[arg-type]
    return Router(offers or (GOOD, FAIR), table, says or Says(), weights, "fair", rules)  # type: ignore[arg-type]


def decide(
    made: Router, asked: str = "auto", *, caller: Caller = CALLER, budget: int | None = None, **given: object
) -> Decision:
    return made.decide(chat("x" * 400, **given), asked, caller, "conversation", budget, 0.0)


def refused(made: Router, asked: str = "auto", **given: object) -> CallRefused:
    with pytest.raises(CallRefused) as error:
        decide(made, asked, **given)  # type: ignore[arg-type]
    return error.value


def excluded(decision: Decision) -> dict[str, str | None]:
    return {each.target.model: each.excluded for each in decision.candidates}


def test_the_best_at_the_task_answers_and_the_others_stand_behind_it() -> None:
    decision = decide(router())
    assert decision.order == (GOOD.target, FAIR.target)
    assert (decision.task, decision.confidence, decision.has_declined) == (CODE, 0.9, False)
    assert [each.quality.mean for each in decision.candidates if each.quality] == [0.8, 0.6]


def test_evidence_knows_a_model_by_the_providers_name_too() -> None:
    named = GOOD._replace(target=Target("of-good", "big", "good"))
    assert decide(router(named, FAIR)).order == (named.target, FAIR.target)


def test_who_is_out_does_not_decide_how_the_others_are_compared() -> None:
    """Only `good` has scores; the two others have votes, and `good` is forbidden."""
    votes = [Finding(CODE, model, "votes", share_of(right, 100), "") for model, right in (("fair", 40), ("new", 90))]
    table = Evidence([*votes, Finding(CODE, "good", "evaluations", share_of(80, 100), "")], WeightSettings())
    made = router(GOOD, FAIR, offer("new"), table=table)
    assert decide(made).has_declined
    made.rules = House(forbidden={"good": "it ended"})
    assert decide(made).order == (target("new"), FAIR.target) and not decide(made).has_declined


def test_an_unknown_task_is_left_to_the_default() -> None:
    decision = decide(router(says=Says(confidence=0.49)))
    assert decision.task == "" and decision.has_declined and decision.order[0] == FAIR.target


def test_a_named_task_is_not_guessed() -> None:
    maths = evidence({"good": (0.3, 500), "fair": (0.9, 500)}, "product/maths")
    decision = decide(router(table=maths), "auto:product/maths")
    assert (decision.task, decision.confidence, decision.order[0]) == ("product/maths", 1.0, FAIR.target)
    error = refused(router(), "auto:product/cod")
    assert error.status == 400 and "'product/code'" in error.message


@pytest.mark.parametrize(
    ("change", "given", "said", "status"),
    [
        ({"missing": lambda request: ["tools"]}, {}, "cannot take tools", 400),
        ({"context": 150}, {"max_tokens": 100}, "more than its context of 150", 400),
        ({"max_output": 64}, {"max_tokens": 100}, "at most 64 tokens, not 100", 400),
        ({"region": "us"}, {}, "it computes in us", 403),
        ({"groups": ("early",)}, {}, "early access", 403),
    ],
)
def test_who_does_not_meet_a_constraint_is_out_and_the_decision_says_why(
    change: dict[str, object], given: dict[str, object], said: str, status: int
) -> None:
    regions = ("eu",) if "region" in change else ()
    fair, out = FAIR._replace(region="eu"), GOOD._replace(**change)  # type: ignore[arg-type]
    decision = decide(router(out, fair, regions=regions), **given)
    assert decision.order == (fair.target,) and said in (excluded(decision)["good"] or "")
    error = refused(router(out, regions=regions), **given)
    assert error.status == status and said in error.message


def test_early_access_opens_for_its_groups() -> None:
    early = GOOD._replace(groups=("early", "staff"))
    assert decide(router(early, FAIR), caller=CALLER._replace(groups=("staff",))).order[0] == GOOD.target


def test_who_could_cost_more_than_is_left_is_out() -> None:
    decision = decide(router(), budget=NANO // 500, max_tokens=100)
    assert decision.order == (FAIR.target,) and "of the budget is left" in (excluded(decision)["good"] or "")
    assert refused(router(), budget=0, max_tokens=100).status == 402


def test_contracts_go_before_quality_and_of_several_whys_the_nearest_is_told() -> None:
    forbidden = House(forbidden={"good": "good ended on 1 May", "fair": "fair is exclusive"})
    assert decide(router(rules=House(forbidden={"good": "it ended"}))).order == (FAIR.target,)
    assert refused(router(rules=forbidden)).status == 403
    small = router(GOOD, FAIR._replace(context=10), rules=House(forbidden={"good": "it ended"}))
    error = refused(small)
    assert error.code == "context_length_exceeded" and "fair" in error.message and "ended" not in error.message


def test_who_has_first_refusal_is_asked_first_if_it_can() -> None:
    assert decide(router(rules=House(first="of-fair"))).order == (FAIR.target, GOOD.target)
    assert decide(router(GOOD, FAIR._replace(context=10), rules=House(first="of-fair"))).order == (GOOD.target,)


def test_who_is_down_is_asked_last() -> None:
    decision = decide(router(rules=House(down={GOOD.target})))
    assert decision.order == (FAIR.target, GOOD.target) and "down" in decision.reason
    assert "down" in (excluded(decision)["good"] or "")
    assert decide(router(GOOD, rules=House(down={GOOD.target}))).order == (GOOD.target,)


def test_a_named_model_answers_wherever_it_is_offered_then_its_fallbacks() -> None:
    cheap = offer("good", "other", price=1.0)
    made = router(GOOD, cheap, FAIR, fallbacks={"good": ("fair",)})
    assert decide(made, "good").order == (cheap.target, GOOD.target, FAIR.target)
    assert decide(router(GOOD, FAIR), "fair").order == (FAIR.target,)
    gone = router(GOOD, cheap, FAIR, fallbacks={"good": ("fair",)}, rules=House(forbidden={"good": "cut"}))
    assert decide(gone, "good").order == (FAIR.target,) and "stands in for good" in decide(gone, "good").reason
    error = refused(router(), "god")
    assert error.status == 404 and "'good'" in error.message


def test_a_model_that_embeds_answers_nothing() -> None:
    price = Price("USD", rates_of(RateSettings(input=1.0)), (), 0, "test")
    embeds = FAIR._replace(price=lambda now: price)
    assert decide(router(GOOD, embeds), budget=NANO, max_tokens=9).order == (GOOD.target,)
    assert "answers nothing" in refused(router(GOOD, embeds), "fair").message
    request = EmbeddingRequest(model="fair", input="x")
    assert router(GOOD, embeds).decide(request, "fair", CALLER, "c", NANO, 0.0).order == (embeds.target,)


def test_embeddings_are_of_a_model_that_is_named() -> None:
    request = EmbeddingRequest(model="auto", input="x")
    with pytest.raises(CallRefused, match="name the model"):
        router().decide(request, "auto", CALLER, "c", None, 0.0)
    assert router().decide(request, "fair", CALLER, "c", None, 0.0).task == ""


def test_a_conversation_stays_with_who_answered_it_while_that_may_answer() -> None:
    made = router(says=Says())
    first = decide(made)
    made.answered("conversation", first, FAIR.target, 1.0, 10, now=0.0)  # good had failed
    second = decide(made)
    assert second.order == (FAIR.target, GOOD.target) and "so far" in second.reason
    assert second.confidence == first.confidence
    assert made.decide(chat("x"), "auto", CALLER, "another", None, 0.0).order[0] == GOOD.target
    assert made.decide(chat("x"), "auto", CALLER, "conversation", None, 1e6).order[0] == GOOD.target
    assert decide(made, "good").order == (GOOD.target,)  # a request that names another leaves it
    made.rules = House(forbidden={"fair": "it was cut"})
    assert decide(made).order == (GOOD.target,)


def test_a_roll_out_reaches_its_share_and_nobody_else() -> None:
    new = offer("new")
    reached = router(GOOD, FAIR, new, rules=House(rollout=Rollout("new", True)))
    assert decide(reached).order[0] == new.target and "rolled out" in decide(reached).reason
    made = router(GOOD, new, table=evidence({"good": (0.5, 99), "new": (0.9, 99)}))
    made.rules = House(rollout=Rollout("new", False))
    assert decide(made).order == (GOOD.target,)
    assert decide(made, "new").order == (new.target,)  # who names it gets it
    made.answered("conversation", decide(made, "new"), new.target, 1.0, 10, now=0.0)
    assert decide(made).order == (GOOD.target,)  # rolled back: conversations leave it


def test_time_is_measured_by_what_was_answered() -> None:
    made = router()
    made.settings = RoutingSettings(per_second=0.1)
    for _ in range(3):
        made.answered("other", decide(made), GOOD.target, 10.0, 500, now=0.0)
        made.answered("other", decide(made), FAIR.target, 1.0, 500, now=0.0)
    assert decide(made).order[0] == FAIR.target
    assert {each.target.model: each.latency for each in decide(made).candidates} == {"good": 10.0, "fair": 1.0}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([None, 50, 10_000]), st.booleans(), st.integers(0, 60), st.booleans()),
        min_size=1, max_size=6,
    ),
    st.sampled_from(["auto", "auto:product/code", "m0"]),
    st.sampled_from([None, 0, NANO]),
)  # fmt: skip
def test_whoever_is_asked_meets_every_constraint_and_everybody_else_is_told_why(
    drawn: list[tuple[bool, int | None, bool, int, bool]], asked: str, budget: int | None
) -> None:
    offers = [
        offer(f"m{number}", is_inhouse=own, context=context, groups=("early",) if early else ())
        for number, (own, context, early, _, _) in enumerate(drawn)
    ]
    scores = {f"m{number}": (right / 60, 60) for number, (_, _, _, right, _) in enumerate(drawn)}
    down = {each.target for each, (_, _, _, _, is_down) in zip(offers, drawn, strict=True) if is_down}
    made = router(*offers, table=evidence(scores), rules=House(down=down))
    able = {
        each.target
        for each in offers
        if not each.groups and each.context != 50 and budget != 0 and (asked != "m0" or each.target.model == "m0")
    }
    if not able:
        assert refused(made, asked, budget=budget).status in (400, 402, 403)
        return
    decision = decide(made, asked, budget=budget)
    assert {*decision.order} == able and len(decision.order) == len(able)
    assert {each.target for each in decision.candidates if each.excluded is None} == able - down
    assert [target in down for target in decision.order] == sorted(target in down for target in decision.order)
    assert header(decision).isascii() and from_json(as_json(decision)).order == decision.order


def test_a_decision_is_a_function_of_what_is_known() -> None:
    table = Evidence((), WeightSettings())
    assert decide(router(table=table)) == decide(router(table=table))
    assert decide(router(table=table)).has_declined and decide(router(table=table)).order[0] == target("fair")


def test_who_stands_in_for_a_model_is_one_that_the_key_may_ask() -> None:
    made = router(offer("a"), offer("b"), offer("c"), fallbacks={"a": ("b", "c")})
    models = lambda *scope: [each.model for each in decide(made, "a", caller=CALLER._replace(models=scope)).order]  # noqa: E731
    assert models() == models("a", "auto") == ["a", "b", "c"]  # auto: all that the gateway chooses among
    assert models("a", "c") == ["a", "c"]
    assert models("a", "auto:product/code") == ["a"]
