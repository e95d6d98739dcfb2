"""Whatever the first provider does, the client gets a whole answer, in time, or a clean error."""

import asyncio
from contextlib import aclosing

import pytest
from tests.gateway.failover.scripted import END, A, Scripted, Stage, outcomes, says, text_of
from tests.gateway.fault_classes import CLASSES, FaultClass, outcomes_of, wrong_in_resume
from tests.gateway.jumping_clock import run

from inhouse.api.wire.pieces import Content, Usage
from inhouse.gateway.types import Attempt, CallRefused
from inhouse.providers.answers import Begun, Ended
from inhouse.providers.errors import Disconnected, RateLimited, RequestRefused, ServerFault, TimedOut
from inhouse.providers.settings import LimitSettings


@pytest.mark.parametrize("fault", CLASSES, ids=[fault.name for fault in CLASSES])
def test_hold_passes_every_class_of_fault(fault: FaultClass) -> None:
    world, outcomes = run(outcomes_of(fault, "hold", True, seed=2))
    assert fault.check(world, outcomes) is None


MIDWAY = [fault for fault in CLASSES if fault.name in ("S08", "S09", "S10", "S14")]


@pytest.mark.parametrize("fault", MIDWAY, ids=[fault.name for fault in MIDWAY])
@pytest.mark.parametrize("seed", [0, 1, 2])  # the second target continues, says the same, or neither
def test_resume_tells_nothing_wrong(fault: FaultClass, seed: int) -> None:
    world, outcomes = run(outcomes_of(fault, "resume", True, seed))
    assert [wrong for outcome in outcomes if (wrong := wrong_in_resume(world, outcome))] == []
    if seed < 2 and fault.name != "S14":
        assert fault.check(world, outcomes) is None


def test_who_is_hedged_is_asked_besides_and_the_first_to_speak_answers() -> None:
    async def work() -> None:
        slow, quick = Scripted([30.0, *says("a", "x")]), Scripted(says("b", "y"))
        stage = Stage(slow, quick, hedge_after=1.0)
        answering = stage.call()
        start = stage.clock()
        assert await text_of(answering) == "y"
        assert 0.9 < stage.clock() - start < 2.0
        assert outcomes(answering) == [("a", "abandoned"), ("b", "answered")]
        assert answering.attempts[0].is_estimate
        assert stage.pool.num_streams("a") == stage.pool.num_streams("b") == 0

    run(work())


def test_who_speaks_in_time_is_not_hedged() -> None:
    async def work() -> None:
        other = Scripted(says("b", "y"))
        assert await text_of(Stage(Scripted([0.5, *says("a", "x")]), other, hedge_after=1.0).call()) == "x"
        assert other.asked == []

    run(work())


def test_a_hedge_that_may_not_be_paid_for_is_none() -> None:
    async def only_one(attempt: Attempt) -> None:
        if attempt.number > 1:
            raise CallRefused(402, "no money is left", "insufficient_quota")

    async def work() -> None:
        stage = Stage(Scripted([3.0, *says("a", "x")]), Scripted(says("b", "y")), hedge_after=1.0)
        assert await text_of(stage.call(only_one)) == "x"

    run(work())


def test_a_client_that_goes_leaves_an_estimate() -> None:
    async def work() -> None:
        stage = Stage(Scripted([Begun("i", "a"), Content("word " * 8), 99.0, END]), stream_recovery="off")
        answering = stage.call()
        async with aclosing(answering.events()) as events:
            async for event in events:
                if isinstance(event, Content):
                    break
        (attempt,) = answering.attempts
        assert (attempt.outcome, attempt.is_estimate) == ("client gone", True)
        assert attempt.usage == Usage(2, 0, 10, 0)  # four letters a token
        assert stage.pool.num_streams("a") == 0

    run(work())


def test_an_attempt_is_written_down_before_anybody_is_asked_and_nobody_is_where_it_is_refused() -> None:
    async def refuse(attempt: Attempt) -> None:
        assert endpoint.asked == []
        raise CallRefused(402, "no money is left", "insufficient_quota")

    endpoint = Scripted(says("a", "x"))

    async def work() -> None:
        with pytest.raises(CallRefused, match="no money"):
            await text_of(Stage(endpoint).call(refuse))
        assert endpoint.asked == []

    run(work())


def test_the_usage_is_of_all_attempts_and_what_failed_before_it_began_is_nothing() -> None:
    async def work() -> None:
        cut = Scripted([Begun("i", "a"), Content("four" * 3), Disconnected("cut")], [ServerFault("no", status=503)])
        answering = Stage(cut, Scripted([ServerFault("no", status=500)], says("b", "y"))).call()
        events = [event async for event in answering.events()]
        assert outcomes(answering) == [("a", "connection"), ("b", "server"), ("b", "answered")]
        assert answering.attempts[1].usage == Usage(0, 0, 0, 0)
        assert events[-1] == Ended("stop", None, Usage(12, 0, 8, 0))

    run(work())


@pytest.mark.parametrize(
    ("said", "booked"),
    [
        (Usage(0, 0, 0, 0), Usage(2, 0, 1, 0)),
        (Usage(9, 0, 0, 0), Usage(9, 0, 1, 0)),  # what it does say is no less than that
        (Usage(0, 0, 9, 0), Usage(2, 0, 9, 0)),
    ],
)
def test_a_usage_of_nothing_for_an_answer_is_not_believed(said: Usage, booked: Usage) -> None:
    async def work() -> None:
        answering = Stage(Scripted([Begun("i", "a"), Content("four"), Ended("stop", None, said)])).call()
        assert [event async for event in answering.events()][-1] == Ended("stop", None, None)
        assert (answering.attempts[0].usage, answering.attempts[0].is_estimate) == (booked, True)

    run(work())


def test_a_probe_that_was_refused_its_money_leaves_the_probe_to_the_next_call() -> None:
    async def refuse(attempt: Attempt) -> None:
        raise CallRefused(402, "no money is left", "insufficient_quota")

    async def work() -> None:
        stage = Stage(Scripted([Disconnected("no")], says("a", "x")), breaker_failures=1, breaker_pause=1.0, retries=0)
        with pytest.raises(Disconnected):
            await text_of(stage.call())
        await asyncio.sleep(2.0)
        refused = stage.call(refuse)
        with pytest.raises(CallRefused):
            await text_of(refused)
        assert refused.attempts == [] and not stage.breaker.is_open(A)

    run(work())


@pytest.mark.parametrize(("status", "is_estimate"), [(500, False), (503, False), (502, True), (504, True)])
def test_a_proxy_that_gave_up_does_not_say_that_nothing_was_used(status: int, is_estimate: bool) -> None:
    async def work() -> None:
        answering = Stage(Scripted([ServerFault("no", status=status)]), Scripted(says("b", "x")), retries=0).call()
        assert await text_of(answering) == "x"
        assert answering.attempts[0].is_estimate is is_estimate

    run(work())


def test_a_fault_that_asks_for_time_gets_it() -> None:
    async def work() -> None:
        stage = Stage(Scripted([ServerFault("busy", status=503, retry_after=3.0)], says("a", "x")))
        start = stage.clock()
        assert await text_of(stage.call()) == "x" and stage.clock() - start >= 3.0

    run(work())


def test_a_usage_that_nobody_said_stays_unknown_to_the_client_and_is_an_estimate_in_the_books() -> None:
    async def work() -> None:
        answering = Stage(Scripted([Begun("i", "a"), Content("four"), Ended("stop", None, None)])).call()
        assert [event async for event in answering.events()][-1] == Ended("stop", None, None)
        assert (answering.attempts[0].usage, answering.attempts[0].is_estimate) == (Usage(2, 0, 1, 0), True)

    run(work())


def test_who_asks_to_be_left_alone_for_long_is_not_asked_by_other_calls_either() -> None:
    async def work() -> None:
        busy = Scripted([RateLimited("slow down", status=429, retry_after=20.0)], says("a", "x"))
        stage = Stage(busy, Scripted(says("b", "y")))
        assert [await text_of(stage.call()), await text_of(stage.call())] == ["y", "y"]
        assert len(busy.asked) == 1
        await asyncio.sleep(21.0)
        assert await text_of(stage.call()) == "x"

    run(work())


def test_all_calls_wait_for_who_asks_to_be_left_alone_for_a_moment() -> None:
    async def work() -> None:
        busy = Scripted([RateLimited("slow down", status=429, retry_after=2.0)], says("a", "x"))
        stage = Stage(busy)
        start = stage.clock()
        assert await asyncio.gather(text_of(stage.call()), text_of(stage.call())) == ["x", "x"]
        assert all(at - start >= 2.0 for at, _ in busy.asked[2:])

    run(work())


def test_a_call_whom_nobody_may_be_asked_for_says_when_to_come_again() -> None:
    async def work() -> None:
        stage = Stage(Scripted([RateLimited("slow down", status=429, retry_after=20.0)]))
        with pytest.raises(RateLimited):
            await text_of(stage.call())
        with pytest.raises(CallRefused) as refused:
            await text_of(stage.call())
        assert (refused.value.status, round(refused.value.retry_after or 0)) == (429, 20)

    run(work())


def test_the_last_one_is_waited_for_and_who_was_asked_to_think_is() -> None:
    async def work() -> None:
        slow, other = Scripted([60.0, *says("a", "x")]), Scripted(says("b", "y"))
        assert await text_of(Stage(slow).call()) == "x"
        assert await text_of(Stage(slow, other).call(reasoning_effort="high")) == "x"
        patient = Scripted([60.0, *says("a", "x")], limits=LimitSettings(first_token_timeout=90.0))
        assert await text_of(Stage(patient, other).call()) == "x"
        assert await text_of(Stage(slow, other).call()) == "y"

    run(work())


def test_a_silent_one_is_asked_once_though_nobody_else_is_there() -> None:
    async def work() -> None:
        silent = Scripted([1e6])
        with pytest.raises(TimedOut):
            await text_of(Stage(silent, retries=5).call())
        assert len(silent.asked) == 1

    run(work())


def test_a_request_that_is_wrong_is_given_back_but_not_what_only_the_second_dislikes() -> None:
    async def work() -> None:
        wrong, broken = Scripted([RequestRefused("bad", status=400)]), Scripted([ServerFault("no", status=503)])
        other = Scripted(says("b", "y"))
        with pytest.raises(RequestRefused):
            await text_of(Stage(wrong, other).call())
        assert other.asked == []
        with pytest.raises(ServerFault):
            await text_of(Stage(broken, wrong).call())

    run(work())


@pytest.mark.parametrize("recovery", ["hold", "resume"])
def test_a_stream_of_a_provider_that_is_cut_goes_on_elsewhere(recovery: str) -> None:
    async def work() -> None:
        cut, other = Scripted([Begun("i", "a"), Content("one"), 50.0, END]), Scripted(says("b", "one", " two"))
        stage = Stage(cut, other, stream_recovery=recovery, silence=40.0)
        answering = stage.call()
        reading = asyncio.create_task(text_of(answering))
        await asyncio.sleep(1.0)
        await stage.pool.close("a", grace=5.0)
        assert cut.is_closed
        assert await reading == "one two"
        assert outcomes(answering) == [("a", "cut"), ("b", "answered")]
        assert stage.breaker.state(A) == "closed"  # nothing was wrong with it

    run(work())


def test_a_stream_may_end_within_the_grace() -> None:
    async def work() -> None:
        stage = Stage(Scripted([Begun("i", "a"), Content("one"), 3.0, END]), Scripted(says("b", "two")))
        reading = asyncio.create_task(text_of(stage.call()))
        await asyncio.sleep(1.0)
        closing = asyncio.create_task(stage.pool.close("a", grace=30.0))
        await asyncio.sleep(0.1)
        assert await text_of(stage.call()) == "two"
        assert await reading == "one"
        start = stage.clock()
        await closing
        assert stage.clock() - start < 1.0

    run(work())


def test_in_off_a_broken_stream_ends_with_its_error() -> None:
    async def work() -> None:
        stage = Stage(
            Scripted([Begun("i", "a"), Content("one"), Disconnected("cut")]), Scripted(says("b", "one")),
            stream_recovery="off",
        )  # fmt: skip
        with pytest.raises(Disconnected):
            await text_of(stage.call())
        assert await text_of(stage.call(stream=False)) == "one"  # nobody saw the beginning

    run(work())


def test_usage_that_cannot_be_is_an_estimate() -> None:
    async def work() -> None:
        for told in (Usage(0, 0, 0, 0), Usage(0, 0, 9, 0), Usage(9, 0, 0, 0)):
            answering = Stage(Scripted([Begun("id", ""), Content("four"), Ended("stop", None, told)])).call()
            begun, _, ended = [event async for event in answering.events()]
            (attempt,) = answering.attempts
            assert (begun, ended) == (Begun("id", "m-a"), Ended("stop", None, None))
            assert attempt.is_estimate and attempt.usage is not None
            assert attempt.usage == Usage(told.prompt or 2, 0, told.completion or 1, 0)

    run(work())
