"""Decides who answers a request, and why."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.api.wire.pieces import Usage
from inhouse.gateway.routing.choice import Choice, Option, choose, name_of, utilities
from inhouse.gateway.routing.classifier import Guess, TaskClassifier
from inhouse.gateway.routing.constraints import Hindrance, Wanted, hindrance
from inhouse.gateway.routing.conversations import Conversations, Pin
from inhouse.gateway.routing.evidence import Evidence
from inhouse.gateway.routing.latency import Latency
from inhouse.gateway.routing.offer import NoRules, Offer, Rollout, Rules
from inhouse.gateway.routing.request import AnyRequest, asked_tokens, number_of_answers, size_of, text_of
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.settings import AUTO
from inhouse.gateway.types import Caller, CallRefused, Candidate, Decision, Estimate, Target

_DOWN = "it is down; it is asked last"


class _Seen(NamedTuple):
    """An offer as this decision sees it."""

    offer: Offer
    option: Option
    hindrance: Hindrance | None


class Router:
    """`decide` reads only, so that it can explain a choice without making one; `answered` tells it what came of it."""

    def __init__(
        self,
        offers: Sequence[Offer],
        evidence: Evidence,
        classifier: TaskClassifier,
        settings: RoutingSettings,
        default: str,
        rules: Rules | None = None,
    ) -> None:
        self.offers, self.evidence, self.classifier = tuple(offers), evidence, classifier
        self.settings, self.default, self.rules = settings, default, rules or NoRules()
        self.latency = Latency()
        self._conversations = Conversations()

    def decide(
        self,
        request: AnyRequest,
        asked: str,
        caller: Caller,
        conversation: str,
        budget_left: int | None,
        now: float,
    ) -> Decision:
        """Who is asked, in which order. `asked` is what the request names: a model, "auto" or "auto:TASK".

        Raises `CallRefused` where nobody may or can answer: 400, 402, 403 or 404.
        """
        is_auto = asked == AUTO or asked.startswith(f"{AUTO}:")
        named = () if is_auto else self._named(asked)
        pin = self._conversations.get(conversation, now)
        guess = self._task(request, asked, pin)
        wanted = Wanted(
            request, caller, guess.task, size_of(request), asked_tokens(request), number_of_answers(request),
            budget_left, now,
        )  # fmt: skip
        rollout = self.rules.rollout(guess.task, conversation) if is_auto and guess.task else None
        seen = self._seen(wanted, named, rollout)
        able = [each.option for each in seen if each.hindrance is None]
        if not able:
            raise _refused(asked, seen)
        choice = self._named_choice(able, named) if named else choose(able, self.settings, self.default)
        owner = self.rules.first(guess.task, now)
        choice = _owned(choice, owner) or _stay(choice, pin, guess, named) or _moved(choice, rollout) or choice
        order = sorted(choice.order, key=self.rules.is_down)  # stable: who is down comes last
        if order[0] != choice.order[0]:
            choice = choice._replace(reason=f"{choice.reason}; but it is down, so {name_of(order[0])} is asked first")
        return Decision(
            guess.task, guess.confidence, self._candidates(seen), tuple(order), choice.reason, choice.has_declined
        )

    def answered(
        self, conversation: str, decision: Decision, target: Target, seconds: float, tokens: int, now: float
    ) -> None:
        """`target` has given an answer of so many tokens in so many seconds: latency, and where the conversation is."""
        self.latency.observe(target, tokens, seconds)
        until = now + self.settings.sticky_seconds
        self._conversations.put(conversation, Pin(target, decision.task, decision.confidence, until))

    @property
    def tasks(self) -> tuple[str, ...]:
        """All that auto:TASK may name."""
        return tuple(dict.fromkeys([*self.classifier.tasks, *self.evidence.tasks]))

    def _named(self, asked: str) -> tuple[str, ...]:
        """The models that may answer for one that a request names, in their order."""
        known = [offer.target.model for offer in self.offers]
        if asked not in known and asked not in self.settings.fallbacks:
            near = get_close_matches(asked[:100], known, n=1)
            meant = f" Did you mean '{near[0]}'?" if near else ""
            raise CallRefused(404, f"There is no model '{asked[:100]}' here.{meant}", "model_not_found")
        return (asked, *self.settings.fallbacks.get(asked, ()))

    def _task(self, request: AnyRequest, asked: str, pin: Pin | None) -> Guess:
        """What the request names, else what its conversation is about, else what the classifier says if it is sure."""
        if isinstance(request, EmbeddingRequest):
            if asked.partition(":")[0] == AUTO:
                raise CallRefused(400, "Embeddings of two models do not compare: name the model.", "model_not_found")
            return Guess("", 0.0)
        if asked.startswith(f"{AUTO}:"):
            return Guess(self._known_task(asked.partition(":")[2]), 1.0)
        if pin is not None:  # what it began with is what the classifier was asked, whatever that has said
            return Guess(pin.task, pin.confidence)
        guess = self.classifier.guess(text_of(request))
        return guess if guess.confidence >= self.settings.confidence else Guess("", guess.confidence)

    def _known_task(self, task: str) -> str:
        if task not in self.tasks:
            near = get_close_matches(task[:100], self.tasks, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(self.tasks)}."
            raise CallRefused(400, f"There is no task '{task[:100]}': {hint}", "task_not_found")
        return task

    def _seen(self, wanted: Wanted, named: Sequence[str], rollout: Rollout | None) -> list[_Seen]:
        offers = [offer for offer in self.offers if not named or offer.target.model in named]
        names = self._names(wanted.task, offers)
        hinders = {offer.target: self._hindrance(offer, wanted, named, rollout) for offer in offers}
        able = [name for target, name in names.items() if hinders[target] is None]
        fewest = self.settings.fewest
        # those who are out decide not by which kinds of evidence the others are compared
        quality = self.evidence.quality(wanted.task, names.values(), fewest) | self.evidence.quality(
            wanted.task, able, fewest
        )
        return [
            _Seen(offer, self._option(offer, wanted, names[offer.target], quality), hinders[offer.target])
            for offer in offers
        ]

    def _hindrance(
        self, offer: Offer, wanted: Wanted, named: Sequence[str], rollout: Rollout | None
    ) -> Hindrance | None:
        scope = wanted.caller.models
        if named and scope and not {AUTO, offer.target.model} & {*scope}:  # who stands in is no way around it
            return Hindrance(0, 403, "model_not_allowed", "this key may not ask for it")
        if found := hindrance(offer, wanted, self.rules, self.settings):
            return found
        if rollout is not None and not rollout.is_in and offer.target.model == rollout.model:
            return Hindrance(7, 503, "rollout", "its roll-out has not reached this conversation")
        return None

    def _names(self, task: str, offers: Sequence[Offer]) -> dict[Target, str]:
        """What the evidence calls each at a task: the model's name here, else the provider's name of it."""
        known = self.evidence.models(task)
        return {
            offer.target: offer.target.model if offer.target.model in known else offer.target.upstream
            for offer in offers
        }

    def _option(self, offer: Offer, wanted: Wanted, name: str, quality: Mapping[str, Estimate]) -> Option:
        typical = self.evidence.typical(wanted.task, name)
        tokens = self.settings.answer_tokens if typical.tokens is None else typical.tokens
        limits = [limit for limit in (wanted.asked_tokens, offer.max_output) if limit is not None]
        tokens = min([tokens, *limits])
        usage = Usage(wanted.size.prompt, 0, round(tokens) * wanted.answers, 0)
        measured = self.latency.expected(offer.target, tokens)
        latency = typical.seconds if measured is None else measured
        cost = offer.price(wanted.now).cost(usage)
        return Option(offer.target, offer.is_inhouse, quality.get(name), cost, latency)

    def _named_choice(self, able: Sequence[Option], named: Sequence[str]) -> Choice:
        """A request that names a model gets that one; at whichever provider is best, then its fallbacks."""
        worth = dict(zip(able, utilities(able, self.settings), strict=True))
        ranked = sorted(
            able,
            key=lambda option: (
                named.index(option.target.model), not option.is_inhouse, -(worth[option] or 0.0), option.cost,
                option.latency or 0.0, option.target,
            ),
        )  # fmt: skip
        first = ranked[0].target
        why = (
            "is what the request names" if first.model == named[0] else f"stands in for {named[0]}, which cannot answer"
        )
        return Choice(tuple(option.target for option in ranked), f"{name_of(first)} {why}", False)

    def _candidates(self, seen: Sequence[_Seen]) -> tuple[Candidate, ...]:
        able = [each.option for each in seen if each.hindrance is None]
        worth = dict(zip(able, utilities(able, self.settings), strict=True))
        return tuple(
            Candidate(
                option.target, option.quality, option.cost, option.latency, worth.get(option),
                hinders.words if hinders else _DOWN if self.rules.is_down(option.target) else None,
            )
            for _, option, hinders in seen
        )  # fmt: skip


def _owned(choice: Choice, provider: str | None) -> Choice | None:
    """A contract gives a provider the first refusal of the task."""
    its = [target for target in choice.order if target.provider == provider]
    return _first(its, choice, f"{name_of(its[0])} has the first refusal by contract") if its else None


def _stay(choice: Choice, pin: Pin | None, guess: Guess, named: Sequence[str]) -> Choice | None:
    """The conversation goes on where it is, if that may still answer and is what is asked for."""
    if pin is None or pin.target not in choice.order or pin.task != guess.task:
        return None
    if named and pin.target.model != choice.order[0].model:
        return None
    return _first([pin.target], choice, f"{name_of(pin.target)} has answered this conversation so far")


def _moved(choice: Choice, rollout: Rollout | None) -> Choice | None:
    """A roll-out has reached this conversation."""
    if rollout is None or not rollout.is_in:
        return None
    new = [target for target in choice.order if target.model == rollout.model]
    return _first(new, choice, f"{name_of(new[0])} is rolled out to this conversation") if new else None


def _first(targets: Iterable[Target], choice: Choice, reason: str) -> Choice:
    return Choice(tuple(dict.fromkeys([*targets, *choice.order])), reason, False)


def _refused(asked: str, seen: Sequence[_Seen]) -> CallRefused:
    """Nobody is left: says of those that came furthest why not."""
    hindrances = [each.hindrance for each in seen if each.hindrance is not None]
    if not hindrances:
        return CallRefused(404, f"There is no model '{asked[:100]}' here.", "model_not_found")
    furthest = max(hindrances, key=lambda each: each.step)
    whys = [
        f"{name_of(each.offer.target)}: {each.hindrance.words}"
        for each in seen
        if each.hindrance is not None and each.hindrance.step == furthest.step
    ]
    more = f"; and {len(whys) - 3} more" if len(whys) > 3 else ""
    return CallRefused(
        furthest.status,
        f"Nobody can answer this request for '{asked[:100]}': {'; '.join(whys[:3])}{more}.",
        furthest.code,
    )
