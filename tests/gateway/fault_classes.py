"""The sixteen classes of fault of the field's public failover benchmark: what each provider does, and what must follow.

In every world three models could answer, each with a text of its own, so that whatever is put together wrongly shows:
`first`, `second`, and `third`, whose context is longer. `second` can take a prefill, or says the same as `first`, or
neither, by the seed.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from tests.gateway.fault_provider import SPEECH, Behaviour, Fault, FaultProvider

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import Content, Usage
from inhouse.gateway.failover.answer import Answering
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.failover.pool import Pool
from inhouse.gateway.failover.settings import FailoverSettings
from inhouse.gateway.settings import ModelSettings
from inhouse.gateway.types import Attempt, CallRefused, Target
from inhouse.providers.answers import Begun, Ended
from inhouse.providers.dialects import DIALECTS
from inhouse.providers.endpoint import Endpoint
from inhouse.providers.errors import ProviderError

NUM_TOKENS = 60
FIRST, SECOND, THIRD = (Target(name, name, f"{name}-1") for name in ("first", "second", "third"))
USED = {"first": (11, 60), "second": (13, 58), "third": (17, 59)}
WELL = Fault()


@dataclass
class Outcome:
    """What a client saw of one request, in seconds since it was sent."""

    text: str = ""
    reason: str | None = None
    error: str | None = None  # the kind of an error
    message: str = ""
    model: str = ""
    usage: Usage | None = None
    first_text: float | None = None
    seconds: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)


class World(NamedTuple):
    first: FaultProvider
    second: FaultProvider
    third: FaultProvider
    born: float
    continues: bool  # the second one takes a prefill
    models: dict[Target, ModelSettings]  # whom a call may ask, in this order

    def is_whole(self, text: str) -> bool:
        """Somebody's whole answer, or the beginning of the first one's with what goes on behind it."""
        if text in {"".join(provider.text) for provider in (self.first, self.second, self.third)}:
            return True
        end = "".join(continuation(""))
        return self.continues and text.endswith(end) and self.is_beginning(text.removesuffix(end))

    def is_beginning(self, text: str) -> bool:
        return "".join(self.first.text).startswith(text)


class FaultClass(NamedTuple):
    """`first` and `second` are how these behave, given a random number generator. `check` gives what is wrong in
    `hold`, if anything."""

    name: str
    what: str
    first: Callable[[random.Random], Behaviour]
    check: Callable[[World, list[Outcome]], str | None]
    second: Callable[[random.Random], Behaviour] = lambda draw: lambda number, asked: WELL
    num_requests: int = 1
    spacing: float = 0.0  # seconds between two requests
    has_longer: Callable[[int], bool] = lambda seed: False  # the third one may be asked


def continuation(prefill: str) -> list[str]:
    """Behind whatever was said."""
    return [f" c{number}" for number in range(20)]


def always(**fault: object) -> Callable[[random.Random], Behaviour]:
    return lambda draw: lambda number, asked: Fault(**fault)  # type: ignore[arg-type]


def once(**fault: object) -> Callable[[random.Random], Behaviour]:
    return lambda draw: lambda number, asked: Fault(**fault) if number == 1 else WELL  # type: ignore[arg-type]


def _answered(within: float = 100.0) -> Callable[[World, list[Outcome]], str | None]:
    def check(world: World, outcomes: list[Outcome]) -> str | None:
        for outcome in outcomes:
            if outcome.error is not None:
                return f"the client got an error: {outcome.message}"
            if not world.is_whole(outcome.text) or outcome.reason != "stop":
                return f"the client got {outcome.text[-30:]!r} and {outcome.reason}"
            if outcome.seconds > within:
                return f"it took {outcome.seconds:.1f} s"
        return None

    return check


def _obeyed(world: World, outcomes: list[Outcome]) -> str | None:
    if len(asked := world.first.asked) > 1 and asked[1].at - asked[0].at < 1.8:
        return f"it was asked again after {asked[1].at - asked[0].at:.2f} s"
    return _answered()(world, outcomes)


def _silent_once(world: World, outcomes: list[Outcome]) -> str | None:
    return "the silent route was tried again" if len(world.first.asked) > 1 else _answered(100.0)(world, outcomes)


def _longer(world: World, outcomes: list[Outcome]) -> str | None:
    if world.second.asked:
        return "a model whose context is no longer was asked"
    if outcomes[0].error == "context length":
        return None if not world.third.asked else "the longer one was asked, and its answer not given"
    return _answered()(world, outcomes) if world.third.asked else "nobody refused it and nobody answered"


def _filtered(world: World, outcomes: list[Outcome]) -> str | None:
    if world.second.asked or world.third.asked or len(world.first.asked) > 1:
        return "somebody else was asked"
    outcome = outcomes[0]
    return None if "content filter" in (outcome.error, (outcome.reason or "").replace("_", " ")) else "it was hidden"


def _no_400(world: World, outcomes: list[Outcome]) -> str | None:
    return "the refused prefill reached the client" if outcomes[0].error == "request" else _answered()(world, outcomes)


def _healed(world: World, outcomes: list[Outcome]) -> str | None:
    down = sum(asked.at - world.born < 60 for asked in world.first.asked)
    if down > 8:
        return f"it was asked {down} times while it was down"
    if outcomes[-1].model != "first-1":
        return "it was not asked again when it was well"
    return _answered()(world, outcomes)


def _named(world: World, outcomes: list[Outcome]) -> str | None:
    outcome = outcomes[0]
    if (outcome.model, outcome.usage) != ("second-1", Usage(13, 0, 58, 0)):
        return f"the answer says {outcome.model} and {outcome.usage}"
    return _answered()(world, outcomes)


def _down_for_a_minute(draw: random.Random) -> Behaviour:
    """From the first request on."""
    born: list[float] = []

    def behave(number: int, asked: object) -> Fault:
        now = asyncio.get_running_loop().time()
        born[:] = born or [now]
        return Fault(status=503, code="overloaded") if now - born[0] < 60 else WELL

    return behave


def _refuses_prefill(draw: random.Random) -> Behaviour:
    refusal = Fault(status=400, message="a prefill is not supported", code="invalid_request_error")
    return lambda number, asked: refusal if asked.prefill is not None else WELL


def _cut(draw: random.Random) -> Behaviour:
    """The connection breaks, or an error comes within the stream."""
    place = draw.randint(35, 45)
    fault = draw.choice((Fault(cut_after=place), Fault(status=503, code="overloaded_error", error_after=place)))
    return lambda number, asked: fault


def _filter(draw: random.Random) -> Behaviour:
    refused = Fault(status=400, message="refused by the content management policy", code="content_filter")
    fault = draw.choice((refused, refused._replace(error_after=20), Fault(finish="content_filter")))
    return lambda number, asked: fault


CLASSES = (
    FaultClass("S01", "429 with Retry-After, once", once(status=429, retry_after=2.0, code="rate_limit"), _obeyed),
    FaultClass("S02", "429 for good", always(status=429, code="rate_limit"), _answered()),
    FaultClass("S03", "500, once", once(status=500), _answered()),
    FaultClass("S04", "503 for good", always(status=503, code="overloaded"), _answered()),
    FaultClass("S05", "reset before the header", always(is_reset=True), _answered()),
    FaultClass("S06", "silence", always(is_silent=True), _silent_once),
    FaultClass("S07", "first token after 20 s", always(first_token=20.0), _answered(15.0)),
    FaultClass("S08", "cut after 40 of 60 tokens", _cut, _answered()),
    FaultClass("S09", "a stall of 30 s after 20 tokens", always(stall_after=20, stall=30.0), _answered()),
    FaultClass("S10", "one malformed chunk", lambda d: once(malformed_after=d.randint(1, 55))(d), _answered()),
    FaultClass("S11", "no last word of the stream", always(has_end=False), _answered(8.0)),
    FaultClass(
        "S12", "context too long", always(
            status=400, message="This model's maximum context length is 8192 tokens", code="context_length_exceeded"
        ), _longer, has_longer=lambda seed: seed % 2 == 0,
    ),
    FaultClass("S13", "content filter", _filter, _filtered),
    FaultClass("S14", "cut, and a prefill is refused", _cut, _no_400, second=_refuses_prefill),
    FaultClass("S15", "down for 60 s, 20 requests", _down_for_a_minute, _healed, num_requests=20, spacing=5.0),
    FaultClass("S16", "who answered", always(status=503, code="overloaded"), _named),
)  # fmt: skip

NO_FAULT = FaultClass("S00", "nothing fails", always(), _answered())


@asynccontextmanager
async def world_of(fault: FaultClass, seed: int) -> AsyncIterator[World]:
    """Three providers that live until it is left."""
    draw = random.Random(f"{fault.name} {seed}")
    spoken = sorted({*DIALECTS} & {*SPEECH})
    dialects = [draw.choice(spoken) for _ in range(3)]
    texts = [[f"{letter}{draw.randint(0, 999)} " for _ in range(NUM_TOKENS)] for letter in "fst"]
    texts = [[*text[:-1], text[-1].strip()] for text in texts]
    continues = seed % 3 == 0
    if continues or fault.name == "S14":
        dialects[1] = "openai"  # whose table has words for a prefill
    if seed % 3 == 1:
        texts[1] = texts[0]
    behaviours = (fault.first(draw), fault.second(draw), always()(draw))
    async with AsyncExitStack() as stack:
        providers = [
            await stack.enter_async_context(
                FaultProvider(
                    dialect, target.upstream, text, _with_usage(behave, target.provider),
                    continuation if target is SECOND and continues else None, seed=seed,
                )
            )
            for target, dialect, text, behave in zip((FIRST, SECOND, THIRD), dialects, texts, behaviours, strict=True)
        ]  # fmt: skip
        order = (FIRST, SECOND, THIRD) if fault.has_longer(seed) else (FIRST, SECOND)
        models = {
            FIRST: ModelSettings(name="first", upstream="first-1", context=8192),
            SECOND: ModelSettings(
                name="second", upstream="second-1", context=8192, can_prefill=continues or fault.name == "S14"
            ),
            THIRD: ModelSettings(name="third", upstream="third-1", context=32768),
        }
        born = asyncio.get_running_loop().time()
        yield World(*providers, born, continues, {target: models[target] for target in order})


def _with_usage(behave: Behaviour, name: str) -> Behaviour:
    return lambda number, asked: behave(number, asked)._replace(usage=USED[name])


Ask = Callable[[bool], Awaitable[Outcome]]  # one request, a stream or not


async def asked_all(fault: FaultClass, ask: Ask, is_stream: bool) -> list[Outcome]:
    """All requests of one class, one after the other."""
    outcomes: list[Outcome] = []
    for number in range(fault.num_requests):
        if number:
            await asyncio.sleep(fault.spacing)
        outcomes.append(await ask(is_stream))
    return outcomes


async def outcomes_of(fault: FaultClass, recovery: str, is_stream: bool, seed: int) -> tuple[World, list[Outcome]]:
    """All requests of one class in a world of its own, asked without the rest of the gateway."""
    async with world_of(fault, seed) as world, AsyncExitStack() as stack:
        providers = {"first": world.first, "second": world.second, "third": world.third}
        endpoints = {
            target.provider: await stack.enter_async_context(Endpoint(provider.url, DIALECTS[provider.dialect]))
            for target in world.models
            for provider in (providers[target.provider],)
        }
        settings = FailoverSettings.model_validate({"stream_recovery": recovery})
        breaker = Breaker(settings, asyncio.get_running_loop().time)
        pool = Pool(endpoints, world.models)
        outcomes = await asked_all(fault, partial(_asked, tuple(world.models), pool, breaker, settings), is_stream)
    return world, outcomes


async def _asked(
    order: tuple[Target, ...], pool: Pool, breaker: Breaker, settings: FailoverSettings, is_stream: bool
) -> Outcome:
    request = ChatRequest.model_validate(
        {"model": "auto", "messages": [{"role": "user", "content": "Say it."}], "stream": is_stream, "max_tokens": 100}
    )
    clock = asyncio.get_running_loop().time
    outcome, start = Outcome(), clock()

    async def note(attempt: Attempt) -> None:
        pass

    answering = Answering(request, order, pool, breaker, settings, note, monotonic=clock)
    try:
        async with aclosing(answering.events()) as events:
            async for event in events:
                if isinstance(event, Begun):
                    outcome.model = event.model
                elif isinstance(event, Content):
                    outcome.text += event.text
                    outcome.first_text = outcome.first_text or clock() - start
                elif isinstance(event, Ended):
                    outcome.reason, outcome.usage = event.reason, event.usage
    except ProviderError as error:
        outcome.error, outcome.message = error.kind, str(error)
    except CallRefused as error:
        outcome.error, outcome.message = "refused", error.message
    outcome.seconds, outcome.attempts = clock() - start, answering.attempts
    return outcome


def wrong_in_resume(world: World, outcome: Outcome) -> str | None:
    """What a client that takes every word as it comes was told wrongly, if anything: an answer that ends well is whole,
    and one that ends with an error is the beginning of one."""
    if outcome.error is None and outcome.reason == "stop":
        return None if world.is_whole(outcome.text) else f"the text {outcome.text[-30:]!r} is nobody's"
    return None if world.is_beginning(outcome.text) else f"before the error came {outcome.text[-30:]!r}"
