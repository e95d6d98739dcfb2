"""Several tokens of a sequence in one step: drafts of what comes next, verified by one pass over all of them.

Decoding reads all weights for every token, so that a few more rows cost little. A draft changes nothing but speed: at
every position the engine draws as ever, by that position's own distribution and random number, and goes on while what
it draws is what the draft holds. That is exact, as the coins of Leviathan et al. 2023 are, and draws the same tokens as
without. Drafts are what a grammar leaves no choice about; else what `PromptLookup` finds, or what a `Drafter` says: a
smaller model, or the layer of the model itself that predicts further ahead.
"""

from collections.abc import Collection, Mapping
from typing import Protocol
from weakref import WeakKeyDictionary

from inhouse.engine.drafts.pace import Pace, SteadyPace
from inhouse.engine.drafts.prompt_lookup import PromptLookup
from inhouse.engine.scheduler import Scheduled, Scheduler, Sequence
from inhouse.model.transformer import Transformer

_ROWS = 16  # of a step: with more, time goes into arithmetic, and a refused row costs what a token does


class Drafter(Protocol):
    """Drafts for many sequences at once."""

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        """Up to so many tokens that may follow each, whose pages have room for them; who gets none may be missing."""
        ...


class Speculator:
    """Adds drafts of at most `most` tokens to what is planned for a step. `ends`: tokens that nothing follows.

    By `drafter`, or, without one, by looking up what followed before. `is_steady`: see `SteadyPace`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        most: int,
        max_context: int,
        ends: Collection[int],
        drafter: Drafter | None = None,
        is_steady: bool = False,
    ) -> None:
        self._scheduler, self._most, self._max_context, self._ends = scheduler, most, max_context, ends
        self._drafter, self._is_steady = drafter, is_steady
        self._lookups: WeakKeyDictionary[Sequence, PromptLookup] = WeakKeyDictionary()
        self._paces: WeakKeyDictionary[Sequence, Pace] = WeakKeyDictionary()
        self._guessed: set[Sequence] = set()  # whose drafts of this step no grammar has forced
        self.num_drafted = self.num_accepted = 0

    def extend(self, scheduled: list[Scheduled]) -> list[Scheduled]:
        """The same with drafts, as far as a step's rows, free pages and the ends of the sequences leave room."""
        self._guessed.clear()
        decoding = [item.sequence for item in scheduled if item.is_decoding]
        drafts: dict[Sequence, tuple[int, ...]] = {}
        asked: dict[Sequence, int] = {}  # for, and how much
        left = _ROWS - len(decoding)
        for place, sequence in enumerate(decoding):
            share = -(-left // (len(decoding) - place))  # what one leaves is for those after it
            most = self._room(sequence, min(share, self._most))
            if most <= 0:
                continue
            draft = sequence.matcher.forced()[:most] if sequence.matcher is not None else []
            if not draft:
                pace = self._pace(sequence)
                if pace.is_waiting():
                    continue
                most = min(most, pace.most)
                if self._drafter is not None:
                    most = self._scheduler.reserve(sequence, most)
                    if most > 0:
                        asked[sequence] = most
                        left -= most
                    continue
                draft = self._look_up(sequence, most)
            drafts[sequence] = self._fitted(sequence, draft)
            left -= len(drafts[sequence])
        if asked and self._drafter is not None:
            self._guessed.update(asked)
            proposed = self._drafter.propose(asked)
            drafts |= {sequence: self._fitted(sequence, draft) for sequence, draft in proposed.items()}
            for sequence in asked:
                if not drafts.get(sequence):
                    self._pace(sequence).observe(0, 0)
        return [item._replace(draft=drafts.get(item.sequence, ())) for item in scheduled]

    def observe(self, sequence: Sequence, num_proposed: int, num_accepted: int) -> None:
        """What became of a draft that `extend` has added."""
        self.num_drafted += num_proposed
        self.num_accepted += num_accepted
        if sequence in self._guessed:
            self._pace(sequence).observe(num_proposed, num_accepted)

    def _room(self, sequence: Sequence, most: int) -> int:
        """How many tokens its draft may have, of `most`."""
        if sequence.thinking is not None and not sequence.thinking.is_over:  # its end may have to come in between
            return 0
        # the pass draws one token more than the draft has
        left = sequence.params.max_tokens - sequence.num_drawn, self._max_context - len(sequence.tokens)
        return min(most, *(each - 1 for each in left))

    def _look_up(self, sequence: Sequence, most: int) -> list[int]:
        self._guessed.add(sequence)
        lookup = self._lookups.get(sequence)
        if lookup is None:
            lookup = self._lookups[sequence] = PromptLookup()
        return lookup.propose(sequence.tokens, most)

    def _fitted(self, sequence: Sequence, draft: list[int]) -> tuple[int, ...]:
        """As much of a draft as its grammar allows, without what would end it, and as free pages have room for."""
        if draft and sequence in self._guessed and sequence.matcher is not None:
            draft = sequence.matcher.allowed(draft)
        is_ended = not sequence.params.ignore_eos or sequence.matcher is not None  # a grammar ends whoever ignores ends
        ends = {*sequence.params.stop_token_ids, *(self._ends if is_ended else ())}
        draft = draft[: next((place for place, token in enumerate(draft) if token in ends), len(draft))]
        return tuple(draft[: self._scheduler.reserve(sequence, len(draft))]) if draft else ()

    def _pace(self, sequence: Sequence) -> Pace:
        pace = self._paces.get(sequence)
        if pace is None:
            pace = self._paces[sequence] = SteadyPace(self._most) if self._is_steady else Pace()
        return pace


def check_drafter(speculation: str, model: Transformer, drafter: Drafter | None) -> None:
    """Raise `ValueError` where the setting wants a drafter that is not there, or one is there that it does not want."""
    if (speculation == "model") != (drafter is not None):
        raise ValueError("speculation = model and what drafts go together: open the model's folder with draft_model")
    if speculation == "mtp" and model.mtp is None:
        raise ValueError(
            "speculation = mtp, but the model has no layer for multi-token prediction: take ngram, or train it with "
            "[model] num_nextn_predict_layers = 1"
        )
