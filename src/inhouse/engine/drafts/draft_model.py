"""Drafts by a smaller model of the same vocabulary (Leviathan et al. 2023; Chen et al. 2023)."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Protocol

from inhouse.engine.request import Completion, Failure, SamplingParams, StepOutput
from inhouse.engine.scheduler import Origin, Sequence

log = logging.getLogger(__name__)


class Generator(Protocol):
    """Of an `inhouse.engine.engine.Engine`, which has a speculator itself, what is used here."""

    max_context: int

    def add(self, prompt: list[int], params: SamplingParams, origin: Origin | None = None) -> int: ...
    def step(self) -> list[StepOutput | Failure]: ...
    def abort(self, identity: int) -> Completion | None: ...


class DraftModel:
    """What the model of `engine` holds for likeliest. The engine finds what it has computed of a sequence before."""

    def __init__(self, engine: Generator) -> None:
        self.engine = engine

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        """Up to so many tokens that may follow each. Without it, things go on: it never raises."""
        asked: dict[int, Sequence] = {}
        drafts: dict[Sequence, list[int]] = {}
        try:
            for sequence, most in wanted.items():
                if (most := min(most, self.engine.max_context - len(sequence.tokens))) > 0:
                    origin = Origin(salt=sequence.salt)
                    asked[self.engine.add(sequence.tokens, _greedy(most), origin)] = sequence
            while len(drafts) < len(asked):
                for output in self.engine.step():
                    if isinstance(output, Failure):
                        drafts[asked[output.id]] = []
                    elif output.completion is not None:
                        drafts[asked[output.id]] = output.completion.token_ids
        except Exception:
            log.exception("the draft model failed; this step goes on without drafts")
            for identity in asked:
                self.engine.abort(identity)
        return drafts


@cache
def _greedy(num_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=num_tokens, temperature=0, ignore_eos=True)
