"""Drawing tokens for a whole batch at once, each request by its own parameters and its own random numbers.

The random number of a token is a hash of (the request's seed, the token's index): no state, so a request draws the
same tokens whatever it is batched with, and after it was interrupted.
Shapes: N requests, V vocabulary.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inhouse.engine.request import SamplingParams, TokenLogprobs

_LIKELY = 256  # tokens that are sorted first; usually they hold every candidate


def uniform(seeds: Sequence[int], counters: Sequence[int]) -> np.ndarray:
    """One number in [0, 1) a pair: the output function of SplitMix64 (Steele et al. 2014), applied twice."""
    state = _mix(np.array([seed & (2**64 - 1) for seed in seeds], dtype=np.uint64))
    return (_mix(state + np.array(counters, dtype=np.uint64)) >> np.uint64(14)) * 2.0**-50


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Drawing(NamedTuple):
    """One row of a draw: its parameters, its random numbers' seed, its tokens so far, which of all end it, and which
    its grammar allows, a bit each (`Mask`)."""

    params: SamplingParams
    seed: int
    prompt: Sequence[int]
    generated: Sequence[int]
    ends: Collection[int]
    allowed: np.ndarray | None = None


def only(token: int, vocab_size: int) -> np.ndarray:
    """The mask that allows this token alone, a bit each, the lowest first: (V/32,) int32."""
    bits = np.zeros(-(-vocab_size // 32), dtype=np.int32)
    bits.view(np.uint8)[token // 8] = 1 << (token % 8)
    return bits


def penalise(logits_NV: Tensor, drawings: Sequence[Drawing]) -> Tensor:
    """The logits that rows with penalties or biases draw from; the rest unchanged.

    Presence and frequency penalties as in OpenAI's API (of generated tokens), the repetition penalty of Keskar et al.
    2019 (CTRL, section 4.1; of prompt and answer).
    """
    changed = [row for row, drawing in enumerate(drawings) if drawing.params.changes_logits]
    if not changed:
        return logits_NV
    logits_NV = logits_NV.clone()
    device = logits_NV.device
    for row in changed:
        params, logits_V = drawings[row].params, logits_NV[row]
        prompt, generated = drawings[row].prompt, drawings[row].generated
        if params.repetition_penalty != 1.0:
            seen = torch.tensor(sorted({*prompt, *generated}), device=device)
            known = logits_V[seen]
            logits_V[seen] = torch.where(
                known > 0, known / params.repetition_penalty, known * params.repetition_penalty
            )
        if generated and (params.presence_penalty or params.frequency_penalty):
            tokens, counts = np.unique(np.array(generated), return_counts=True)
            less = params.presence_penalty + params.frequency_penalty * counts
            logits_V[torch.from_numpy(tokens).to(device)] -= torch.from_numpy(less).to(device, logits_V.dtype)
        for token, bias in params.logit_bias.items():
            logits_V[token] += bias
        if len(generated) < params.min_tokens:
            ends = [*drawings[row].ends, *params.stop_token_ids]
            logits_V[torch.tensor(ends, dtype=torch.int64, device=device)] = -torch.inf
    return logits_NV


def constrain(penalised_NV: Tensor, logits_NV: Tensor, drawings: Sequence[Drawing]) -> Tensor:
    """Minus infinity where a row's grammar does not allow the token.

    An end that `min_tokens` or `ignore_eos` would keep away is drawn where the grammar allows nothing else.
    """
    allowed = {row: drawing.allowed for row, drawing in enumerate(drawings) if drawing.allowed is not None}
    if not allowed:
        return penalised_NV
    device, vocab_size = logits_NV.device, logits_NV.shape[1]
    bits = np.stack(list(allowed.values())).view(np.uint8)
    allowed_MV = torch.from_numpy(np.unpackbits(bits, axis=1, count=vocab_size, bitorder="little")).to(device).bool()
    rows_M = torch.tensor(list(allowed), device=device)
    part_MV = penalised_NV[rows_M].masked_fill(~allowed_MV, -torch.inf)
    for place, row in enumerate(allowed):
        if drawings[row].params.ignore_eos:
            part_MV[place, list(drawings[row].ends)] = -torch.inf
    is_empty_M1 = part_MV.amax(dim=-1, keepdim=True) == -torch.inf
    only_MV = logits_NV[rows_M].masked_fill(~allowed_MV, -torch.inf)
    return penalised_NV.index_copy(0, rows_M, torch.where(is_empty_M1, only_MV, part_MV))


def truncate(
    logits_NV: Tensor, temperature_N: Tensor, top_k_N: Tensor, top_p_N: Tensor, min_p_N: Tensor | None = None
) -> Tensor:
    """Logits over temperature, minus infinity outside the top k, the smallest set of probability top_p within it, and
    what has at least min_p of the likeliest token's probability.

    A learner that must see the sampler's distribution calls this too. top_k 0: all; a greedy row (temperature 0) keeps
    its likeliest token alone.
    """
    is_greedy_N = temperature_N == 0
    scaled_NV = logits_NV / temperature_N.masked_fill(is_greedy_N, 1.0)[:, None]
    if min_p_N is not None:
        least_N1 = scaled_NV.amax(dim=-1, keepdim=True) + min_p_N.log()[:, None]
        scaled_NV = scaled_NV.masked_fill(scaled_NV < least_N1, -torch.inf)
    vocab_size = logits_NV.shape[1]
    top_k_N = torch.where(top_k_N == 0, vocab_size, top_k_N).clamp(max=vocab_size).masked_fill(is_greedy_N, 1)
    if bool((top_k_N == vocab_size).all()) and bool((top_p_N >= 1).all()):
        return scaled_NV
    rows = ((top_k_N < vocab_size) | (top_p_N < 1)).nonzero()[:, 0]
    part_MV, top_k_M, top_p_M = scaled_NV[rows], top_k_N[rows, None], top_p_N[rows, None]
    kept_MV = _keep(part_MV, top_k_M, top_p_M, min(_LIKELY, vocab_size))
    return scaled_NV.index_copy(0, rows, kept_MV)


def _keep(logits_MV: Tensor, top_k_M1: Tensor, top_p_M1: Tensor, num_sorted: int) -> Tensor:
    """`truncate` over the `num_sorted` likeliest tokens, or over all in rows where these are not enough."""
    vocab_size = logits_MV.shape[1]
    values, order = logits_MV.topk(num_sorted, dim=-1)  # best first
    ranks = torch.arange(num_sorted, device=logits_MV.device)
    values = values.masked_fill(ranks >= top_k_M1, -torch.inf)
    total_M1 = torch.where(top_k_M1 < vocab_size, values.logsumexp(-1, True), logits_MV.logsumexp(-1, True))
    probabilities = (values - total_M1).double().exp()
    mass = probabilities.cumsum(dim=-1)
    is_enough = (top_k_M1 <= num_sorted) | ((top_k_M1 == vocab_size) & (mass[:, -1:] >= top_p_M1))
    is_out = (mass - probabilities >= top_p_M1) & (ranks > 0)
    kept_MV = torch.full_like(logits_MV, -torch.inf).scatter(1, order, values.masked_fill(is_out, -torch.inf))
    if num_sorted < vocab_size and not bool(is_enough.all()):
        rows = (~is_enough[:, 0]).nonzero()[:, 0]
        kept_MV[rows] = _keep(logits_MV[rows], top_k_M1[rows], top_p_M1[rows], vocab_size)
    return kept_MV


def draw(logits_NV: Tensor, log_totals_N: Tensor, drawings: Sequence[Drawing]) -> tuple[list[int], list[TokenLogprobs]]:
    """One token a row of fp32 logits, whose log-sum-exp is `log_totals_N`, with its log-probabilities."""
    params = [drawing.params for drawing in drawings]
    kept_N: list[np.ndarray | None] = [None] * len(params)
    penalised_NV = constrain(penalise(logits_NV, drawings), logits_NV, drawings)
    if all(p.temperature == 0 and not p.kept for p in params):
        tokens_N = likeliest_of(penalised_NV)
        sampling_N = [0.0] * len(params)
    else:
        device = logits_NV.device
        scaled_NV = truncate(
            penalised_NV,
            torch.tensor([p.temperature for p in params], device=device),
            torch.tensor([p.top_k for p in params], device=device),
            torch.tensor([p.top_p for p in params], device=device),
            torch.tensor([p.min_p for p in params], device=device) if any(p.min_p for p in params) else None,
        )
        chances = uniform([drawing.seed for drawing in drawings], [len(drawing.generated) for drawing in drawings])
        tokens_N = _invert(scaled_NV, torch.from_numpy(chances).to(device))
        sampling_N = logprobs_of(scaled_NV, scaled_NV.logsumexp(dim=-1), tokens_N).tolist()
        kept_N = kept_of(scaled_NV, [p.kept for p in params])
    tops = likeliest(logits_NV, [p.logprobs for p in params])
    logprobs = map(TokenLogprobs, logprobs_of(logits_NV, log_totals_N, tokens_N).tolist(), sampling_N, tops, kept_N)
    return tokens_N.tolist(), list(logprobs)


def likeliest_of(logits_NV: Tensor) -> Tensor:
    """The likeliest token of each row; on a CPU by numpy, whose argmax is vectorised: 20 times as fast as torch's."""
    is_cpu = logits_NV.device.type == "cpu"
    return torch.from_numpy(logits_NV.numpy().argmax(axis=-1)) if is_cpu else logits_NV.argmax(dim=-1)


def _invert(logits_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """The token whose stretch of the cumulative distribution holds the random number; in double, V may be large."""
    cumulative_NV = logits_NV.double().softmax(dim=-1).cumsum(dim=-1)
    target_N1 = (uniform_N * cumulative_NV[:, -1])[:, None]
    return torch.searchsorted(cumulative_NV, target_N1, right=True)[:, 0]


def logprobs_of(logits_NV: Tensor, log_totals_N: Tensor, tokens_N: Tensor) -> Tensor:
    """Log-probability of one token a row; `log_totals_N` is the rows' log-sum-exp."""
    return logits_NV.gather(1, tokens_N[:, None])[:, 0] - log_totals_N


def kept_of(truncated_NV: Tensor, is_wanted_N: Sequence[bool]) -> list[np.ndarray | None]:
    """The tokens that `truncate` left, ascending, int32, of the rows that are wanted; None of the others."""
    if not any(is_wanted_N):
        return [None] * len(is_wanted_N)
    wanted = torch.tensor([row for row, is_wanted in enumerate(is_wanted_N) if is_wanted], device=truncated_NV.device)
    is_kept_MV = truncated_NV[wanted] > -torch.inf
    ids = is_kept_MV.nonzero()[:, 1].int().cpu().numpy()
    sets = iter(np.split(ids, is_kept_MV.sum(dim=1).cumsum(dim=0)[:-1].cpu().numpy()))
    return [next(sets) if is_wanted else None for is_wanted in is_wanted_N]


def likeliest(logits_NV: Tensor, counts: Sequence[int]) -> list[list[tuple[int, float]]]:
    """The `counts[i]` likeliest tokens of row i with their log-probabilities, best first."""
    if not any(counts):
        return [[] for _ in counts]
    values, order = logits_NV.log_softmax(dim=-1).topk(min(max(counts), logits_NV.shape[1]), dim=-1)
    rows = zip(order.tolist(), values.tolist(), counts, strict=True)
    return [list(zip(tokens[:n], logprobs[:n], strict=True)) for tokens, logprobs, n in rows]
