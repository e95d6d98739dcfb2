"""Log-likelihoods of several continuations of one context: the context is computed once, every continuation from it.

A context and its continuations are a tree of tokens, where a mask lets each see the context and itself: one pass
is what a prefill and a branch of its cache for each continuation would be (tree attention: Cai et al., Medusa, 2024,
section 2.1.2), without a cache, and in as few and large products as can be.
Shapes: N tokens of a pass, B trees, T places of the largest, H query and K key-value heads, d head dimension, D width,
V vocabulary, R rows of logits, M tokens that are predicted.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.transformer import Transformer

TOKENS_PER_PASS = 4_096
MAX_LOGITS = 1 << 24  # elements at a time: 64 MiB in fp32


class Branches(NamedTuple):
    """Token ids of a context, at least one, and of what may follow it, each at least one."""

    context: list[int]
    continuations: list[list[int]]

    @property
    def num_tokens(self) -> int:
        """That a pass computes: the last of a continuation predicts nothing that is asked."""
        return len(self.context) + sum(len(each) - 1 for each in self.continuations)

    @property
    def num_positions(self) -> int:
        return len(self.context) + max(map(len, self.continuations)) - 1


class Scored(NamedTuple):
    """The log-likelihood of a continuation (nats), and whether each of its tokens is the likeliest at its place."""

    log_likelihood: float
    is_greedy: bool


class TreeAttention:
    """Softmax attention in which a token sees those before it of its context and of its own continuation.

    The N tokens of a pass come as one row, so that nothing but this is computed for the places that fill up shorter
    trees. `places_N`: of each token in B trees of T places, B * T in all; `owner_BT`: 0 for the context, else the
    number of the continuation, from 1, and -1 where no token is.
    """

    def __init__(self, places_N: Tensor, owner_BT: Tensor, positions_BT: Tensor) -> None:
        self._places_N, self._owner_BT, self._positions_BT = places_N, owner_BT, positions_BT
        self._masks: dict[int | None, Tensor] = {}

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        if window not in self._masks:
            self._masks[window] = self._mask(window)
        q, k, v = (self._spread(x[0]).transpose(1, 2) for x in (q_BTHd, k_BTKd, v_BTKd))
        out_BHTd = F.scaled_dot_product_attention(
            q, k, v, attn_mask=self._masks[window], enable_gqa=q.shape[1] != k.shape[1]
        )
        return out_BHTd.transpose(1, 2).flatten(0, 1)[self._places_N][None]

    def _spread(self, x_NHd: Tensor) -> Tensor:
        spread = x_NHd.new_zeros(self._owner_BT.numel(), *x_NHd.shape[1:])
        spread[self._places_N] = x_NHd
        return spread.unflatten(0, self._owner_BT.shape)

    def _mask(self, window: int | None) -> Tensor:
        """True where a query (third axis) sees a key (fourth): (B, 1, T, T)."""
        owner_BT, positions_BT = self._owner_BT, self._positions_BT
        keys_B1T, queries_BT1 = owner_BT[:, None], owner_BT[:, :, None]
        sees = ((keys_B1T == 0) | (keys_B1T == queries_BT1)).tril()
        if window is not None:
            sees &= positions_BT[:, :, None] - positions_BT[:, None] < window
        return sees[:, None]


def log_likelihoods(
    model: Transformer, packed: Sequence[Branches], tokens_per_pass: int = TOKENS_PER_PASS
) -> Iterator[list[tuple[int, list[Scored]]]]:
    """What a pass gives: numbers of some of `packed` and what their continuations are worth. The longest come first,
    those of like lengths together, up to so many tokens a pass.

    Raises ValueError where one has more positions than the model.
    """
    longest = max((each.num_positions for each in packed), default=0)
    if longest > model.config.max_position:
        raise ValueError(
            f"context and continuation take {longest} positions, but the model {model.config.max_position}"
        )
    order = sorted(range(len(packed)), key=lambda number: packed[number].num_tokens, reverse=True)
    while order:
        size = max(1, tokens_per_pass // packed[order[0]].num_tokens)
        numbers, order = order[:size], order[size:]
        yield list(zip(numbers, _score(model, [packed[number] for number in numbers]), strict=True))


@torch.inference_mode()
def _score(model: Transformer, batch: Sequence[Branches]) -> list[list[Scored]]:
    device = model.embed_tokens.weight.device
    trees = [_Tree.of(each) for each in batch]
    sizes = [len(tree.tokens) for tree in trees]
    owner_BT = torch.full((len(batch), max(sizes)), -1)
    positions_BT = torch.zeros_like(owner_BT)
    for number, tree in enumerate(trees):
        owner_BT[number, : sizes[number]] = torch.tensor(tree.owners)
        positions_BT[number, : sizes[number]] = torch.tensor(tree.positions)
    places_N = (owner_BT.flatten() >= 0).nonzero()[:, 0].to(device)
    tokens_N = torch.tensor([token for tree in trees for token in tree.tokens], device=device)
    owner_BT, positions_BT = owner_BT.to(device), positions_BT.to(device)
    attend = TreeAttention(places_N, owner_BT, positions_BT)
    hidden_ND = model(tokens_N[None], positions_BT.flatten()[places_N][None], attend).hidden_BTD[0]
    starts = [0, *accumulate(sizes)]
    rows = [start + row for start, tree in zip(starts, trees, strict=False) for row in tree.rows]
    rows_R, places = torch.tensor(rows, device=device).unique(return_inverse=True)
    targets = torch.tensor([token for each in batch for own in each.continuations for token in own], device=device)
    logprobs_M, is_likeliest_M = _read(model, hidden_ND[rows_R], places, targets)
    lengths = [len(own) for each in batch for own in each.continuations]
    scored = iter(
        Scored(own.sum().item(), bool(likeliest.all()))
        for own, likeliest in zip(logprobs_M.split(lengths), is_likeliest_M.split(lengths), strict=True)
    )
    return [[next(scored) for _ in each.continuations] for each in batch]


class _Tree(NamedTuple):
    """The tokens that a pass computes of a context and its continuations, whose they are, where they stand; and for
    each token of the continuations the row, among them, that predicts it."""

    tokens: list[int]
    owners: list[int]
    positions: list[int]
    rows: list[int]

    @classmethod
    def of(cls, branches: Branches) -> Self:
        context, last = branches.context, len(branches.context) - 1
        tree = cls([*context], [0] * len(context), [*range(len(context))], [])
        for owner, each in enumerate(branches.continuations, 1):
            start, more = len(tree.tokens), len(each) - 1  # the last one predicts nothing that is asked
            tree.tokens.extend(each[:-1])
            tree.owners.extend([owner] * more)
            tree.positions.extend(range(len(context), len(context) + more))
            tree.rows.extend([last, *range(start, start + more)])
        return tree


def _read(model: Transformer, hidden_RD: Tensor, places_M: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
    """Of every target its log-probability (fp64) and whether it is the likeliest, given what its place predicts."""
    logprobs_M = torch.empty(len(targets_M), dtype=torch.float64)
    is_likeliest_M = torch.empty(len(targets_M), dtype=torch.bool)
    size = max(1, MAX_LOGITS // model.config.vocab_size)
    for start in range(0, len(hidden_RD), size):
        logits_RV = model.logits(hidden_RD[start : start + size])
        is_here_M = (places_M >= start) & (places_M < start + size)
        here, tokens = places_M[is_here_M] - start, targets_M[is_here_M]
        chosen = logits_RV[here, tokens].double() - logits_RV.logsumexp(dim=-1).double()[here]
        logprobs_M[is_here_M.cpu()] = chosen.cpu()
        is_likeliest_M[is_here_M.cpu()] = (logits_RV.argmax(dim=-1)[here] == tokens).cpu()
    return logprobs_M, is_likeliest_M
