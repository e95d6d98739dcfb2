"""Log-probabilities and entropies over the sampler's own sets, and their gradients, against all logits at once."""

import pytest
import torch
from torch import Tensor

from inhouse.model import cross_entropy
from inhouse.rl.policy_head import KeptSets, PolicyHead, Scores

V, D = 11, 4
SETS = [[], [2], [0, 3, 10], [], [1, 4], [5, 6, 7, 8, 9, 10], [0, 1]]  # an empty one means all
TOKENS = [3, 2, 10, 0, 4, 5, 1]


def kept() -> KeptSets:
    ids = torch.tensor([token for each in SETS for token in each], dtype=torch.int32)
    return KeptSets(ids, torch.tensor([len(each) for each in SETS]).cumsum(0))


def operands() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(size, D, generator=generator).requires_grad_() for size in (len(TOKENS), V))


def reference(hidden_ND: Tensor, head_VD: Tensor, temperature: float, sets: list[list[int]]) -> Scores:
    """Token by token, in fp64."""
    logprobs, entropies = [], []
    for hidden_D, token, possible in zip(hidden_ND, TOKENS, sets, strict=True):
        chosen = possible or list(range(V))
        logprobs_k = (head_VD[chosen].double() @ hidden_D.double() / temperature).log_softmax(dim=0)
        logprobs.append(logprobs_k[chosen.index(token)])
        entropies.append(-(logprobs_k.exp() * logprobs_k).sum())
    return Scores(torch.stack(logprobs), torch.stack(entropies))


@pytest.mark.parametrize("logits_at_once", [1 << 20, 3 * V])
@pytest.mark.parametrize(("temperature", "truncates"), [(1.0, True), (0.7, True), (1.3, False)])
def test_scores_and_gradients_are_those_of_all_logits_at_once(
    monkeypatch: pytest.MonkeyPatch, logits_at_once: int, temperature: float, truncates: bool
) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_AT_ONCE", logits_at_once)
    sets = SETS if truncates else [[]] * len(SETS)
    weights_N = torch.linspace(-1.0, 2.0, len(TOKENS))
    grads = []
    for score in (
        lambda hidden, head: PolicyHead(temperature)(hidden, head, torch.tensor(TOKENS), kept() if truncates else None),
        lambda hidden, head: reference(hidden, head, temperature, sets),
    ):
        hidden_ND, head_VD = operands()
        scores = score(hidden_ND, head_VD)
        (scores.logprobs_N * weights_N).sum().backward()
        grads.append((scores, hidden_ND.grad, head_VD.grad))
    (found, *found_grads), (expected, *expected_grads) = grads
    assert found.logprobs_N.tolist() == pytest.approx(expected.logprobs_N.tolist(), abs=1e-6)
    assert found.entropy_N.tolist() == pytest.approx(expected.entropy_N.tolist(), abs=1e-6)
    if truncates:
        assert found.entropy_N[1] == 0 == found.logprobs_N[1]  # where one token alone was possible
    assert not found.entropy_N.requires_grad
    for ours, theirs in zip(found_grads, expected_grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_in_bf16_logits_are_not_rounded() -> None:
    hidden_ND, head_VD = (x.detach().bfloat16() for x in operands())
    scores = PolicyHead(1.0)(hidden_ND, head_VD.float(), torch.tensor(TOKENS), None)
    exact = reference(hidden_ND.float(), head_VD.float(), 1.0, [[]] * len(SETS))
    assert scores.logprobs_N.tolist() == pytest.approx(exact.logprobs_N.tolist(), abs=1e-6)


def test_sets_are_cut_as_places_are() -> None:
    whole, parts = kept().mask(V), [kept().at(slice(start, start + 3)).mask(V) for start in (0, 3)]
    assert torch.equal(torch.cat(parts), whole[:6])
    assert whole[0].all()
    assert whole[2].nonzero().flatten().tolist() == [0, 3, 10]
