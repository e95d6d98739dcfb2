"""Continuous batching: which sequences compute how many tokens in the next step, and on which pages.

First come, first served, but every owner alike. A sequence is admitted when there are pages for all tokens that it has,
and when no running one is computing what it could share; when a running one needs a page and none is free, the youngest
of the least urgent is sent back to wait and computes its tokens again later.
"""

from collections import Counter, deque
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from inhouse.engine.cache.prefix_cache import Found, Node, PrefixCache, grown, salted
from inhouse.engine.grammar import Matcher
from inhouse.engine.request import SamplingParams, TokenLogprobs
from inhouse.engine.text import TextStream, Thinking


class Origin(NamedTuple):
    """Whose a sequence is. Owners share places equally, then the requests of one owner; prefixes that were computed
    under one `salt` are found under that one only. None: a sequence is a request, and an owner, of its own."""

    owner: Hashable = None
    request: Hashable = None
    salt: str = ""


class Sequence:
    """A request under way: its tokens so far, and how many of them have keys and values in its pages."""

    def __init__(
        self,
        identity: int,
        prompt: list[int],
        params: SamplingParams,
        seed: int,
        origin: Origin,
        matcher: Matcher | None = None,
    ) -> None:
        self.id, self.params, self.seed, self.matcher = identity, params, seed, matcher
        self.request = ("its own", identity) if origin.request is None else ("given", origin.request)
        self.owner = self.request if origin.owner is None else ("given", origin.owner)
        self.tokens, self.num_prompt = list(prompt), len(prompt)
        self.num_computed = 0
        self.pages: list[int] = []
        self.num_found = self.num_published = 0  # pages that others had computed; pages that others may find
        self.last_node: Node | None = None  # the last of these, unless the next one is known of somebody else
        self.salt, self._content = origin.salt, salted(origin.salt)
        self.num_cached: int | None = None  # tokens of the prompt that were there when it was first admitted
        self.row = -1  # of the scheduler's table, while it runs
        self.is_sent_back = False  # it has run, and waits again
        self.stream = TextStream(params.stop)
        self.thinking = None if params.thinking is None else Thinking(params.thinking)
        self.logprobs: list[TokenLogprobs] = []
        self.prompt_logprobs: list[TokenLogprobs] = []
        self.hidden_sum: np.ndarray | float = 0.0  # (D) fp64, of the prompt's last hidden states
        self.num_summed = 0

    @property
    def content(self) -> bytes:
        """Its tokens as the prefix cache compares them."""
        self._content = grown(self._content, self.tokens)
        return self._content

    @property
    def num_drawn(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def num_missing(self) -> int:
        """Tokens still to compute before the next one can be drawn."""
        return len(self.tokens) - self.num_computed

    @property
    def reads_prompt(self) -> bool:
        """Whether hidden states of its prompt are still wanted: pages that others have computed hold none."""
        if self.params.embed:
            return self.num_summed < self.num_prompt
        return self.params.prompt_logprobs and len(self.prompt_logprobs) < self.num_prompt - 1


class Scheduled(NamedTuple):
    """`num_tokens` of a sequence, from `sequence.num_computed` on, are computed in this step.

    `is_admitted`: its first; pages that it shares may get their last keys only now. `draft`: tokens that may follow
    those and are computed too (`Speculator`).
    """

    sequence: Sequence
    num_tokens: int
    is_admitted: bool
    draft: tuple[int, ...] = ()

    @property
    def tokens(self) -> list[int]:
        """All that are computed."""
        first = self.sequence.num_computed
        return [*self.sequence.tokens[first : first + self.num_tokens], *self.draft]

    @property
    def is_decoding(self) -> bool:
        """It computes the newest token of an answer alone, and no page of it is still to be filled by somebody else."""
        return self.sequence.num_missing == 1 and not self.is_admitted and not self.sequence.params.embed


class Scheduler:
    """Holds the waiting and the running sequences; `table` names the pages of the running ones, a row each.

    `copies` (from, to) are pages to copy before the step: of each its new owner keeps the first tokens.
    """

    def __init__(self, pages: PrefixCache, max_sequences: int, max_context: int) -> None:
        self.pages, self.page_size = pages, pages.page_size
        self.copies: list[tuple[int, int]] = []
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.table = np.zeros((max_sequences, -(-max_context // self.page_size)), dtype=np.int64)
        self._free_rows = list(range(max_sequences))[::-1]

    def remove(self, sequence: Sequence) -> None:
        """Finished or aborted: its row and pages are free at once."""
        if sequence.row < 0:
            self.waiting.remove(sequence)
        else:
            self.running.remove(sequence)
            self._vacate(sequence)

    def send_back(self, sequence: Sequence) -> None:
        """A running sequence waits again, before all others, and computes its tokens anew."""
        self.running.remove(sequence)
        self._vacate(sequence)
        sequence.is_sent_back = True
        self.waiting.appendleft(sequence)

    @property
    def is_decoding(self) -> bool:
        """Whether anybody waits for the next token of an answer."""
        return any(sequence.num_missing == 1 for sequence in self.running)

    def schedule(self, budget: int) -> list[Scheduled]:
        """The next step: one token for every decoding sequence, and up to `budget` tokens of prompts."""
        self.pages.begin_step()
        self.copies = []
        scheduled: list[Scheduled] = []
        prefilling = []
        for sequence in self._by_urgency():
            if sequence.row < 0:
                continue  # sent back for the sake of one before it
            if sequence.num_missing > 1:
                prefilling.append(sequence)
            elif self._make_room(sequence):
                scheduled.append(self._plan(sequence, 1, False))
        for number, sequence in enumerate(prefilling, 1):
            if sequence.row >= 0 and budget:
                is_last = number == len(prefilling) and not self._is_awaited()
                num_tokens = self._share(sequence, budget, is_last)
                budget -= num_tokens
                scheduled.append(self._plan(sequence, num_tokens, False))
        while budget and self._free_rows and (newcomer := self._next()) is not None and self._admit(newcomer):
            num_tokens = self._share(newcomer, budget, not self._is_awaited())
            budget -= num_tokens
            scheduled.append(self._plan(newcomer, num_tokens, True))
        return scheduled

    def _share(self, sequence: Sequence, budget: int, is_last: bool) -> int:
        """At most half of what is left, while others wait behind it: so that a long prompt lets short ones pass."""
        return min(sequence.num_missing, budget if is_last else max(budget // 2, min(budget, self.page_size)))

    def _is_awaited(self) -> bool:
        """Whether somebody could have a place in this step who waits for one."""
        return bool(self._free_rows) and any(not self._follows(sequence) for sequence in self.waiting)

    def _follows(self, sequence: Sequence) -> bool:
        """Whether the page that it needs next is being computed: later it is found, by all who begin alike."""
        return not sequence.reads_prompt and any(
            leader.num_missing > 1
            and leader.last_node is not None
            and leader.params.priority <= sequence.params.priority
            and len(sequence.tokens) > (leader.num_published + 1) * self.page_size
            and self.pages.begin_alike(leader.content, sequence.content, leader.num_published + 1)
            for leader in self.running
        )

    def _next(self) -> Sequence | None:
        """Who was sent back; else of those that wait the most urgent, then the one whose owner has the fewest places,
        then whose request has, then the first."""
        owners = Counter(sequence.owner for sequence in self.running)
        requests = Counter(sequence.request for sequence in self.running)
        best: tuple[tuple[int, int, int], Sequence] | None = None
        for sequence in self.waiting:
            rank = (sequence.params.priority, owners[sequence.owner], requests[sequence.request])
            if not sequence.is_sent_back and best is not None and rank >= best[0]:
                continue
            if self._follows(sequence):
                continue
            if sequence.is_sent_back or rank == (0, 0, 0):  # nobody behind it comes before it
                return sequence
            best = rank, sequence
        return best[1] if best else None

    def _by_urgency(self) -> list[Sequence]:
        """The running ones, the most urgent first, of these the oldest."""
        return sorted(self.running, key=lambda sequence: sequence.params.priority)

    def _plan(self, sequence: Sequence, num_tokens: int, is_admitted: bool) -> Scheduled:
        """Publish the pages that this step fills: within a step every key is written before any is read."""
        self.publish(sequence, sequence.num_computed + num_tokens)
        return Scheduled(sequence, num_tokens, is_admitted)

    def publish(self, sequence: Sequence, num_tokens: int) -> None:
        """Others may find the pages that so many tokens fill."""
        num_full = num_tokens // self.page_size
        while sequence.num_published < num_full and sequence.last_node is not None:
            number = sequence.num_published
            end, page = (number + 1) * self.page_size, sequence.pages[number]
            node = self.pages.publish(sequence.last_node, sequence.content, end, page)
            sequence.num_published, sequence.last_node = number + (node is not None), node

    def reserve(self, sequence: Sequence, num_tokens: int) -> int:
        """How many tokens more than it has a running sequence has room for, of `num_tokens`; takes free pages only."""
        while (room := len(sequence.pages) * self.page_size - len(sequence.tokens)) < num_tokens:
            if not self.pages.num_free:
                break
            self._append_page(sequence)
        return min(room, num_tokens)

    def _make_room(self, sequence: Sequence) -> bool:
        """A running sequence lacks at most one page, for its newest token."""
        if len(sequence.pages) * self.page_size >= len(sequence.tokens):
            return True
        while not self.pages.num_free:
            victim = self._by_urgency()[-1]  # never one that this step has planned already
            self.send_back(victim)
            if victim is sequence:
                return False
        self._append_page(sequence)
        return True

    def _admit(self, sequence: Sequence) -> bool:
        """Give a waiting sequence a row and pages for all its tokens; those that others have computed are shared, and
        of a page that only begins alike the beginning is copied."""
        found = Found([])
        if not sequence.reads_prompt:  # at least the last token is computed again: its output draws the next one
            found = self.pages.find(sequence.content, len(sequence.tokens) - 1)
        known = [node.page for node in found.nodes]
        num_new = -(-len(sequence.tokens) // self.page_size) - len(known)
        if num_new + sum(map(self.pages.is_free, known)) > self.pages.num_free:
            return False
        self.waiting.remove(sequence)
        self.running.append(sequence)
        sequence.row = self._free_rows.pop()
        self.pages.share(known)
        self.table[sequence.row, : len(known)] = known
        sequence.num_computed = len(known) * self.page_size + found.num_more
        if sequence.num_cached is None:
            sequence.num_cached = sequence.num_computed
        sequence.num_found = sequence.num_published = len(known)
        sequence.last_node = found.nodes[-1] if found.nodes else self.pages.root
        sequence.pages = known
        for _ in range(num_new):
            self._append_page(sequence)
        if found.like is not None:
            copy = sequence.pages[len(found.nodes)]
            self.copies.append((found.like.page, copy))
            self.pages.num_ahead[copy] = min(self.pages.num_ahead[found.like.page], found.num_more)
        return True

    def _append_page(self, sequence: Sequence) -> None:
        page = self.pages.take()
        self.table[sequence.row, len(sequence.pages)] = page
        sequence.pages.append(page)

    def _vacate(self, sequence: Sequence) -> None:
        end, number = sequence.num_computed, sequence.num_published
        if sequence.last_node is not None and 0 < end - number * self.page_size < self.page_size:
            self.pages.publish(sequence.last_node, sequence.content, end, sequence.pages[number])
        self.pages.release(sequence.pages)
        self._free_rows.append(sequence.row)
        sequence.pages, sequence.num_computed, sequence.num_published, sequence.row = [], 0, 0, -1
        sequence.last_node = None
