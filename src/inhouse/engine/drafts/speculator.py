"""Several tokens of a sequence in one step: drafts of what comes next, verified by one pass over all of them.

Decoding reads all weights for every token, so that a few more rows cost little. A draft changes nothing but speed: at
every position the engine draws as ever, by that position's own distribution and random number, and goes on while what
it draws is what the draft holds. That is exact, as the coins of Leviathan et al. 2023 are, and draws the same tokens as
without. Drafts are what a grammar leaves no choice about, or what `PromptLookup` finds.
"""

from collections.abc import Collection
from weakref import WeakKeyDictionary

from inhouse.engine.drafts.prompt_lookup import PromptLookup
from inhouse.engine.scheduler import Scheduled, Scheduler, Sequence

_ROWS = 16  # of a step: with more, time goes into arithmetic, and a refused row costs what a token does


class Speculator:
    """Adds drafts of at most `most` tokens to what is planned for a step. `ends`: tokens that nothing follows."""

    def __init__(self, scheduler: Scheduler, most: int, max_context: int, ends: Collection[int]) -> None:
        self._scheduler, self._most, self._max_context, self._ends = scheduler, most, max_context, ends
        self._lookups: WeakKeyDictionary[Sequence, PromptLookup] = WeakKeyDictionary()
        self._looked_up: set[Sequence] = set()  # whose drafts of this step are
        self.num_drafted = self.num_accepted = 0

    def extend(self, scheduled: list[Scheduled]) -> list[Scheduled]:
        """The same with drafts, as far as a step's rows, free pages and the ends of the sequences leave room."""
        self._looked_up.clear()
        num_decoding, extended = sum(item.is_decoding for item in scheduled), []
        left = _ROWS - num_decoding
        for item in scheduled:
            if left > 0 and item.is_decoding:
                share = -(-left // num_decoding)  # what one leaves is for those after it
                item = item._replace(draft=self._propose(item.sequence, min(share, self._most)))
                left, num_decoding = left - len(item.draft), num_decoding - 1
            extended.append(item)
        return extended

    def observe(self, sequence: Sequence, num_proposed: int, num_accepted: int) -> None:
        """What became of a draft that `extend` has added."""
        self.num_drafted += num_proposed
        self.num_accepted += num_accepted
        if sequence in self._looked_up:
            self._lookup(sequence).observe(num_proposed, num_accepted)

    def _propose(self, sequence: Sequence, most: int) -> tuple[int, ...]:
        if sequence.thinking is not None and not sequence.thinking.is_over:  # its end may have to come in between
            return ()
        tokens, params = sequence.tokens, sequence.params
        # the pass draws one token more than the draft has
        most = min(most, params.max_tokens - sequence.num_drawn - 1, self._max_context - len(tokens) - 1)
        if most <= 0:
            return ()
        draft = sequence.matcher.forced() if sequence.matcher is not None else []
        if not draft:
            draft = self._lookup(sequence).propose(tokens, most)
            self._looked_up.add(sequence)
            if draft and sequence.matcher is not None:
                draft = sequence.matcher.allowed(draft)
        if not draft:
            return ()
        is_ended = not params.ignore_eos or sequence.matcher is not None  # a grammar ends whoever ignores ends
        ends = {*params.stop_token_ids, *(self._ends if is_ended else ())}
        draft = draft[: min(most, next((place for place, token in enumerate(draft) if token in ends), most))]
        return tuple(draft[: self._scheduler.reserve(sequence, len(draft))])

    def _lookup(self, sequence: Sequence) -> PromptLookup:
        lookup = self._lookups.get(sequence)
        if lookup is None:
            lookup = self._lookups[sequence] = PromptLookup()
        return lookup
