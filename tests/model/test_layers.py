"""A compiled linear map is torch's own function; logits may be wider than what they are made of."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from inhouse.model import layers
from inhouse.model.cpu import choice


@pytest.mark.skipif(not choice._HAS_BOTH, reason="torch lacks oneDNN or MKL")
@pytest.mark.parametrize("bias", [None, torch.randn(40)])
def test_compiled_rows_of_fp32_go_to_an_operator_of_the_same_function(bias) -> None:
    weight = torch.randn(40, 24)
    for x in (torch.randn(5, 24), torch.randn(2, 3, 24), torch.randn(24, 5).T):
        torch.library.opcheck(torch.ops.inhouse.onednn_linear, (x, weight, bias))
        expected = F.linear(x, weight, bias)
        torch.testing.assert_close(torch.ops.inhouse.onednn_linear(x, weight, bias), expected, rtol=1e-5, atol=1e-5)
    called = []

    def note(graph, _inputs):
        called.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    with torch.no_grad():
        torch.compile(partial(layers.linear, weight=weight, bias=bias), backend=note)(torch.randn(5, 24))
    assert "inhouse.onednn_linear" in called


def noise_of(share: float, words: list[int], tokens: int = 1) -> layers.Noise:
    words_2N = torch.tensor(words)[:, None].repeat(1, tokens)
    return layers.Noise(words_2N + torch.arange(tokens), torch.tensor(round(share * layers.NOISE)))


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5])
def test_dropout_zeroes_its_share_and_keeps_the_mean(share: float) -> None:
    x = torch.ones(64, 1000)
    out = layers.dropped(x, noise_of(share, [5, 77], 64), 0)
    assert (out == 0).float().mean().item() == pytest.approx(share, abs=0.01)  # five standard errors are 0.008
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    torch.testing.assert_close(out[out > 0], torch.full_like(out[out > 0], 1 / (1 - share)))
    for rows in (out.mean(dim=0), out.mean(dim=1)):  # no token and no channel is special
        assert rows.std().item() < 3 * (share / (1 - share) / min(out.shape)) ** 0.5 + 1e-9
    assert torch.equal(layers.dropped(x, noise_of(0.0, [5, 77], 64), 1), x)


def test_what_is_zeroed_hangs_on_token_place_and_channel_alone() -> None:
    x, noise = torch.ones(6, 400), noise_of(0.5, [3, 4], 6)
    whole = layers.dropped(x, noise, 0)
    half = layers.dropped(x[3:], layers.Noise(noise.words_2N[:, 3:], noise.bound), 0)
    assert torch.equal(whole[3:], half)
    for a, b in ((whole[0], whole[1]), (whole[0], layers.dropped(x, noise, 1)[5])):
        assert ((a == 0) == (b == 0)).float().mean().item() == pytest.approx(0.5, abs=0.13)


def test_mixed_words_are_all_different() -> None:
    found = layers.mixed(torch.arange(100_000))
    assert len(found.unique()) == 100_000
    assert found.min() >= 0
    assert found.max() < layers.NOISE


def test_logits_in_fp32_are_not_rounded_to_the_type_of_what_is_multiplied() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden_ND, head_VD = (torch.randn(size, 32, generator=generator) for size in (5, 40))
    rounded = hidden_ND.bfloat16().float() @ head_VD.bfloat16().float().T
    found = layers.logits_in_fp32(hidden_ND.bfloat16(), head_VD)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, rounded, rtol=1e-6, atol=1e-6)
    assert (layers.linear(hidden_ND.bfloat16(), head_VD).float() - rounded).abs().max() > 1e-3
    torch.testing.assert_close(layers.logits_in_fp32(hidden_ND, head_VD), hidden_ND @ head_VD.T, rtol=1e-6, atol=1e-6)
