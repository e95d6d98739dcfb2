"""A draft is right as far as the engine, drawing as ever, draws the same."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from itertools import takewhile

from inhouse.engine.grammar import Mask
from inhouse.engine.sampler import Drawing, only
from inhouse.engine.scheduler import Sequence as Running


def drawings_of(
    sequence: Running,
    draft: tuple[int, ...],
    future: Future[list[Mask]] | None,
    ends: Collection[int],
    vocab_size: int,
) -> Iterator[Drawing]:
    """Of its next token, and of those that follow its draft, one for each token of that."""
    params, seed = sequence.params, sequence.seed
    masks = [None] * (len(draft) + 1) if future is None else future.result()
    bits = [None if mask is None or mask.error else mask.bits for mask in masks]
    if sequence.thinking is not None and (forced := sequence.thinking.forced) is not None:
        bits = [only(forced, vocab_size)]  # who may be forced gets no draft
    ends = ends if params.changes_logits or bits[0] is not None else ()
    for place, allowed in enumerate(bits):
        if params.changes_logits:
            prompt, generated = sequence.tokens[: sequence.num_prompt], sequence.tokens[sequence.num_prompt :]
            yield Drawing(params, seed, prompt, [*generated, *draft[:place]], ends, allowed)
        else:  # only their number counts
            yield Drawing(params, seed, (), range(sequence.num_drawn + place), ends, allowed)


def num_agreed(draft: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens of the draft have been drawn; one more stands beside a wrong one, or after the last."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(draft, tokens, strict=False)))
