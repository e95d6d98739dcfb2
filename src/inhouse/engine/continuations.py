"""Log-likelihoods of several continuations of one context: the context is computed once, every continuation from it.

All tokens of a context and its continuations stand in one row, and a mask makes a tree of them: a continuation sees the
context and itself. So a pass over whole rows is what a prefill and a branch of its cache for each continuation would be
(tree attention: Cai et al., Medusa, 2024, section 2.1.2), without a cache, and in as few and large products as can be.
Shapes: B rows, T tokens, H query and K key-value heads, d head dimension, D width, V vocabulary, R rows of logits.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
    """Softmax attention in which a token sees those before it of the context and of its own continuation.

    `owner_BT`: 0 for the context, else the number of the continuation, from 1; -1 behind the last token.
    """

    def __init__(self, owner_BT: Tensor, positions_BT: Tensor) -> None:
        self._owner_BT, self._positions_BT = owner_BT, positions_BT
        self._masks: dict[int | None, Tensor] = {}

    def __call__(self, q_BTHd: Tensor, k_BTKd: Tensor, v_BTKd: Tensor, *, layer: int, window: int | None) -> Tensor:
        if window not in self._masks:
            self._masks[window] = self._mask(window)
        q, k, v = (x.transpose(1, 2) for x in (q_BTHd, k_BTKd, v_BTKd))
        mask = self._masks[window]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=q.shape[1] != k.shape[1]).transpose(
            1, 2
        )

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
    num_tokens = max(each.num_tokens for each in batch)
    tokens_BT = torch.zeros(len(batch), num_tokens, dtype=torch.int64)
    owner_BT, positions_BT = torch.full_like(tokens_BT, -1), torch.zeros_like(tokens_BT)
    rows: list[int] = []  # of the pass's tokens, those that predict something
    places: list[int] = []  # for every target, its place in `rows`
    targets: list[int] = []
    for number, (context, continuations) in enumerate(batch):
        parts = [context, *(each[:-1] for each in continuations)]
        own = slice(0, sum(map(len, parts)))
        tokens_BT[number, own] = torch.tensor([token for part in parts for token in part])
        owner_BT[number, own] = torch.tensor([owner for owner, part in enumerate(parts) for _ in part])
        starts = [0] + [len(context)] * len(continuations)
        positions_BT[number, own] = torch.tensor(
            [start + i for start, part in zip(starts, parts, strict=True) for i in range(len(part))]
        )
        last, at = len(rows), number * num_tokens + len(context)
        rows.append(at - 1)  # the context's last token predicts the first of every continuation
        for each in continuations:
            places += [last, *range(len(rows), len(rows) + len(each) - 1)]
            rows += range(at, at + len(each) - 1)
            at += len(each) - 1
            targets += each
    tokens_BT, owner_BT, positions_BT = (x.to(device) for x in (tokens_BT, owner_BT, positions_BT))
    hidden_BTD = model(tokens_BT, positions_BT, TreeAttention(owner_BT, positions_BT)).hidden_BTD
    hidden_RD = hidden_BTD.flatten(0, 1)[torch.tensor(rows, device=device)]
    logprobs_N, is_likeliest_N = _read(
        model, hidden_RD, torch.tensor(places, device=device), torch.tensor(targets, device=device)
    )
    sizes = [len(each) for branches in batch for each in branches.continuations]
    scored = [
        Scored(own.sum().item(), bool(likeliest.all()))
        for own, likeliest in zip(logprobs_N.split(sizes), is_likeliest_N.split(sizes), strict=True)
    ]
    results, start = [], 0
    for branches in batch:
        results.append(scored[start : start + len(branches.continuations)])
        start += len(branches.continuations)
    return results


def _read(model: Transformer, hidden_RD: Tensor, places_N: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Of every target its log-probability (fp64) and whether it is the likeliest, given what its place predicts."""
    logprobs_N = torch.empty(len(targets_N), dtype=torch.float64)
    is_likeliest_N = torch.empty(len(targets_N), dtype=torch.bool)
    size = max(1, MAX_LOGITS // model.config.vocab_size)
    for start in range(0, len(hidden_RD), size):
        logits_RV = model.logits(hidden_RD[start : start + size])
        is_here_N = (places_N >= start) & (places_N < start + size)
        here, tokens = places_N[is_here_N] - start, targets_N[is_here_N]
        chosen = logits_RV[here, tokens].double() - logits_RV.logsumexp(dim=-1).double()[here]
        logprobs_N[is_here_N.cpu()] = chosen.cpu()
        is_likeliest_N[is_here_N.cpu()] = (logits_RV.argmax(dim=-1)[here] == tokens).cpu()
    return logprobs_N, is_likeliest_N
