"""Drawing tokens for a whole batch at once, each request by its own parameters and its own random numbers.

The random number of a token is a hash of (the request's seed, the token's index): no state, so a request draws the
same tokens whatever it is batched with, and after it was interrupted.
Shapes: N requests, V vocabulary.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inhouse.engine.request import SamplingParams, TokenLogprobs


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


class Candidates(NamedTuple):
    """What M rows may draw, at most C each: token ids (M, C), ascending, and their logits over the temperature; minus
    infinity where there is nothing to be drawn."""

    ids_MC: Tensor
    logits_MC: Tensor


def truncate(
    logits_NV: Tensor, temperature_N: Tensor, top_k_N: Tensor, top_p_N: Tensor, min_p_N: Tensor | None = None
) -> Candidates:
    """Of logits over temperature those of the top k, of the smallest set of probability top_p within them, and of
    tokens with at least min_p of the likeliest one's probability.

    top_k 0: all; a greedy row (temperature 0) keeps its likeliest token alone. A row's candidates are the same whatever
    it is truncated with.
    """
    is_greedy_N, vocab_size = temperature_N == 0, logits_NV.shape[1]
    scaled_NV = logits_NV / temperature_N.masked_fill(is_greedy_N, 1.0)[:, None]
    if min_p_N is not None:
        least_N1 = scaled_NV.amax(dim=-1, keepdim=True) + min_p_N.log()[:, None]
        scaled_NV = scaled_NV.masked_fill(scaled_NV < least_N1, -torch.inf)
    top_k_N = torch.where(top_k_N == 0, vocab_size, top_k_N).clamp(max=vocab_size).masked_fill(is_greedy_N, 1)
    has_all_N = top_k_N == vocab_size
    totals_N = scaled_NV.logsumexp(dim=-1)
    # less likely tokens have together less than 1 - top_p, however many they are; a little lower, for what is rounded
    floors_N = totals_N + (1 - top_p_N).log() - math.log(vocab_size) - 1e-3
    if not bool(has_all_N.all()):
        last_N = torch.where(has_all_N, 1, top_k_N)
        lowest_N = scaled_NV.topk(int(last_N.max()), dim=-1)[0].gather(1, last_N[:, None] - 1)[:, 0]
        floors_N = torch.where(has_all_N, floors_N, lowest_N)
    ids_NC, candidates_NC = _at_least(scaled_NV, floors_N)
    is_kept_NC = _is_kept(candidates_NC, top_k_N, top_p_N, totals_N.masked_fill(~has_all_N, torch.nan))
    return Candidates(ids_NC, candidates_NC.masked_fill_(~is_kept_NC, -torch.inf))


def _at_least(logits_NV: Tensor, floors_N: Tensor) -> tuple[Tensor, Tensor]:
    """Ids and logits of the tokens that reach their row's floor, side by side; minus infinity behind a row's last."""
    is_in_NV = (logits_NV >= floors_N[:, None]) & (logits_NV > -torch.inf)
    counts_N = is_in_NV.sum(dim=-1)
    rows, ids = is_in_NV.nonzero(as_tuple=True)
    places = torch.arange(len(ids), device=ids.device) - (counts_N.cumsum(0) - counts_N)[rows]
    ids_NC = ids.new_zeros(len(counts_N), int(counts_N.max()))
    logits_NC = torch.full_like(ids_NC, -torch.inf, dtype=logits_NV.dtype)
    ids_NC[rows, places], logits_NC[rows, places] = ids, logits_NV[rows, ids]
    return ids_NC, logits_NC


def _is_kept(logits_NC: Tensor, top_k_N: Tensor, top_p_N: Tensor, totals_N: Tensor) -> Tensor:
    """Of candidates that hold all that is kept; a total that is not a number is the top k's own. Of tokens that are
    as likely as the last one kept, the first ones are."""
    sorted_NC = _descending(logits_NC)
    ranks_C = torch.arange(sorted_NC.shape[1], device=sorted_NC.device)
    sorted_NC = sorted_NC.masked_fill(ranks_C >= top_k_N[:, None], -torch.inf).double()
    totals_N = torch.where(totals_N.isnan(), sorted_NC.logsumexp(dim=-1), totals_N)
    probabilities_NC = (sorted_NC - totals_N[:, None]).exp()
    before_NC = probabilities_NC.cumsum(dim=-1) - probabilities_NC
    most_N1 = top_p_N.masked_fill(top_p_N >= 1, torch.inf)[:, None]  # what is rounded must not keep the last ones out
    is_in_NC = ((before_NC < most_N1) | (ranks_C == 0)) & (sorted_NC > -torch.inf)
    num_kept_N1 = is_in_NC.sum(dim=-1, keepdim=True)
    least_N1 = sorted_NC.gather(1, (num_kept_N1 - 1).clamp_min(0)).to(logits_NC.dtype)
    is_above_NC, is_tied_NC = logits_NC > least_N1, logits_NC == least_N1
    return is_above_NC | is_tied_NC & (is_tied_NC.cumsum(dim=-1) <= num_kept_N1 - is_above_NC.sum(-1, keepdim=True))


def _descending(logits_NC: Tensor) -> Tensor:
    """On a CPU by numpy, which sorts with vector instructions: ten times as fast as torch."""
    if logits_NC.device.type == "cpu":
        return torch.from_numpy(-np.sort(-logits_NC.numpy(), axis=-1))
    return logits_NC.sort(dim=-1, descending=True)[0]


def draw(logits_NV: Tensor, log_totals_N: Tensor, drawings: Sequence[Drawing]) -> tuple[list[int], list[TokenLogprobs]]:
    """One token a row of fp32 logits, whose log-sum-exp is `log_totals_N`, with its log-probabilities."""
    params = [drawing.params for drawing in drawings]
    kept_N: list[np.ndarray | None] = [None] * len(params)
    penalised_NV = constrain(penalise(logits_NV, drawings), logits_NV, drawings)
    sampling_N = [0.0] * len(params)
    if all(p.temperature == 0 and not p.kept for p in params):
        tokens_N = likeliest_of(penalised_NV)
    else:
        device = logits_NV.device
        chances = uniform([drawing.seed for drawing in drawings], [len(drawing.generated) for drawing in drawings])
        tokens_N = torch.zeros(len(params), dtype=torch.int64, device=device)
        truncates = [p.temperature == 0 or p.top_k > 0 or p.top_p < 1 or p.min_p > 0 for p in params]
        for is_truncated in {*truncates}:  # whose candidates are few are not to be handled as if they were all
            rows = [row for row, truncated in enumerate(truncates) if truncated is is_truncated]
            at = torch.tensor(rows, device=device)
            own_MV = penalised_NV if len(rows) == len(params) else penalised_NV[at]
            found = _candidates(own_MV, [params[row] for row in rows], is_truncated)
            drawn_M, logprobs_M = drawn(found, torch.from_numpy(chances[rows]).to(device))
            tokens_N[at] = drawn_M
            sets = kept_of(found, [params[row].kept for row in rows])
            for row, logprob, kept in zip(rows, logprobs_M.tolist(), sets, strict=True):
                sampling_N[row], kept_N[row] = logprob, kept
    tops = likeliest(logits_NV, [p.logprobs for p in params])
    logprobs = map(TokenLogprobs, logprobs_of(logits_NV, log_totals_N, tokens_N).tolist(), sampling_N, tops, kept_N)
    return tokens_N.tolist(), list(logprobs)


def likeliest_of(logits_NV: Tensor) -> Tensor:
    """The likeliest token of each row; on a CPU by numpy, whose argmax is vectorised: 20 times as fast as torch's."""
    is_cpu = logits_NV.device.type == "cpu"
    return torch.from_numpy(logits_NV.numpy().argmax(axis=-1)) if is_cpu else logits_NV.argmax(dim=-1)


def _candidates(logits_MV: Tensor, params: Sequence[SamplingParams], is_truncated: bool) -> Candidates:
    device = logits_MV.device
    temperature_M = torch.tensor([p.temperature for p in params], device=device)
    if not is_truncated:
        ids_MV = torch.arange(logits_MV.shape[1], device=device).expand_as(logits_MV)
        return Candidates(ids_MV, logits_MV / temperature_M[:, None])
    return truncate(
        logits_MV,
        temperature_M,
        torch.tensor([p.top_k for p in params], device=device),
        torch.tensor([p.top_p for p in params], device=device),
        torch.tensor([p.min_p for p in params], device=device) if any(p.min_p for p in params) else None,
    )


def drawn(candidates: Candidates, uniform_M: Tensor) -> tuple[Tensor, Tensor]:
    """The token whose stretch of the cumulative distribution holds the random number, and its log-probability; in
    double, since there may be many."""
    logits_MC = candidates.logits_MC.double()
    totals_M1 = logits_MC.logsumexp(dim=-1, keepdim=True)
    cumulative_MC = (logits_MC - totals_M1).exp_().cumsum(dim=-1)
    places_M1 = torch.searchsorted(cumulative_MC, (uniform_M * cumulative_MC[:, -1])[:, None], right=True)
    logprobs_M = logits_MC.gather(1, places_M1)[:, 0] - totals_M1[:, 0]
    return candidates.ids_MC.gather(1, places_M1)[:, 0], logprobs_M


def logprobs_of(logits_NV: Tensor, log_totals_N: Tensor, tokens_N: Tensor) -> Tensor:
    """Log-probability of one token a row; `log_totals_N` is the rows' log-sum-exp."""
    return logits_NV.gather(1, tokens_N[:, None])[:, 0] - log_totals_N


def kept_of(candidates: Candidates, is_wanted_M: Sequence[bool]) -> list[np.ndarray | None]:
    """The tokens that `truncate` left, ascending, int32, of the rows that are wanted; None of the others."""
    if not any(is_wanted_M):
        return [None] * len(is_wanted_M)
    is_kept_MC = candidates.logits_MC > -torch.inf
    ids = candidates.ids_MC[is_kept_MC].int().cpu().numpy()
    sets = np.split(ids, is_kept_MC.sum(dim=1).cumsum(dim=0)[:-1].cpu().numpy())
    return [each if is_wanted else None for each, is_wanted in zip(sets, is_wanted_M, strict=True)]


def likeliest(logits_NV: Tensor, counts: Sequence[int]) -> list[list[tuple[int, float]]]:
    """The `counts[i]` likeliest tokens of row i with their log-probabilities, best first."""
    if not any(counts):
        return [[] for _ in counts]
    values, order = logits_NV.log_softmax(dim=-1).topk(min(max(counts), logits_NV.shape[1]), dim=-1)
    rows = zip(order.tolist(), values.tolist(), counts, strict=True)
    return [list(zip(tokens[:n], logprobs[:n], strict=True)) for tokens, logprobs, n in rows]
