"""Weights laid out for a CPU's kernels compute what they computed before."""

import ctypes
import subprocess

import pytest
import torch
import torch.nn.functional as F
from tests.engine.conftest import CONFIGS

from inhouse.model.config import ModelConfig
from inhouse.model.cpu import choice, native, packed
from inhouse.model.cpu.choice import Layout
from inhouse.model.transformer import Transformer

NEAR = {False: 1e-5, True: 1.2e-2}  # in bf16 and in 8 bits, of the norm of what comes out
needs_compiler = pytest.mark.skipif(native.find_compiler() is None, reason="no C++ compiler")


def new_model(kind: str, **changes: object) -> Transformer:
    model = Transformer(ModelConfig(**CONFIGS[kind] | changes), torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.3, generator=generator))
    for name, parameter in model.named_parameters():
        if "mlp.gate." not in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    return model


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize(
    ("kind", "changes"),
    [("dense", {}), ("dense", {"tie_embeddings": True}), ("moe", {"attention_bias": True}), ("local", {})],
)
@torch.inference_mode()
def test_a_packed_model_says_what_it_said(layout, kind, changes, monkeypatch):
    model, own = new_model(kind, **changes), new_model(kind, **changes)
    if layout is Layout.ONEDNN and choice.layout(own.lm_head.weight, False) is None:
        pytest.skip("this CPU's kernels gain nothing by it")
    if layout is not Layout.ONEDNN and packed.kernels() is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(choice, "layout", lambda weight, to_int8: layout)
    own.pack(to_int8=layout is Layout.INT8)
    assert own.layers[0].self_attn.q_proj.weight.numel() == own.lm_head.weight.numel() == 0
    assert own.num_weights == model.num_weights and own.is_int8 == (layout is Layout.INT8)
    for num_tokens in (1, 3, 40):
        tokens = torch.randint(0, 300, (1, num_tokens), generator=torch.Generator().manual_seed(num_tokens))
        logits = [each.logits(each(tokens).hidden_BTD)[0] for each in (model, own)]
        difference = (logits[0] - logits[1]).norm() / logits[0].norm()
        assert difference < (0.3 if kind != "dense" else 0.05), "rounded: a near expert may change places"
    with pytest.raises(ValueError, match="laid out otherwise already"):
        own.pack(to_int8=layout is not Layout.INT8)


def test_weights_in_fp32_stay_as_they_are():
    model = Transformer(ModelConfig(**CONFIGS["dense"]))
    model.pack()
    assert model.lm_head.weight.numel() > 0 and model.layers[0].self_attn.qkv is None


def test_where_8_bits_cannot_be_had_it_says_so(monkeypatch):
    with torch.device("meta"):
        elsewhere = Transformer(ModelConfig(**CONFIGS["dense"]))
    with pytest.raises(ValueError, match=r"int8 is for generation on a CPU, and the model is on meta"):
        elsewhere.pack(to_int8=True)
    monkeypatch.setattr(packed, "kernels", lambda: None)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler"):
        new_model("dense").pack(to_int8=True)


def test_new_weights_do_not_go_unseen_into_a_packed_model():
    model, other = new_model("dense"), new_model("dense")
    if choice.layout(model.lm_head.weight, False) is None:
        pytest.skip("this CPU's kernels gain nothing by it")
    model.pack()
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(other.state_dict(), strict=False)


@pytest.fixture(scope="session", params=["dot products", "plain"])
def compiled(request, tmp_path_factory):
    """The kernels as this machine has them, and those of a machine without vectors of bf16 and 8 bits."""
    kernels = packed.kernels()
    if kernels is None or request.param == "dot products":
        return kernels
    source, library = packed.SOURCE, tmp_path_factory.mktemp("plain") / "plain.so"
    command = [native.find_compiler(), *native._FLAGS, "-DPLAIN", str(source), "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True)
    return packed.declared(ctypes.CDLL(str(library)))


@needs_compiler
@pytest.mark.parametrize("to_int8", [False, True])
def test_no_rows_are_no_rows(to_int8, compiled, monkeypatch):
    monkeypatch.setattr(packed, "kernels", lambda: compiled)
    own = packed.pack([torch.ones(33, 64)], to_int8)
    assert packed.packed_linear(torch.empty(0, 64), own).shape == (0, 33)
    with pytest.raises(AssertionError, match="no gradients"):
        packed.packed_linear(torch.ones(1, 64, requires_grad=True), own)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("to_int8", [False, True])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (31, 7), (64, 64), (33, 130), (300, 65), (97, 576)])
def test_a_packed_matrix_multiplies_any_number_of_rows(outputs, inputs, to_int8, threads, compiled, monkeypatch):
    monkeypatch.setattr(packed, "kernels", lambda: compiled)
    generator = torch.Generator().manual_seed(outputs)
    weight_OI = torch.randn(outputs, inputs, generator=generator).bfloat16()
    bias_O = torch.randn(outputs, generator=generator)
    own, cores = packed.pack([weight_OI], to_int8), torch.get_num_threads()
    torch.set_num_threads(threads)
    for rows in (1, 2, 5, 8, 9, 13, 70):
        for dtype in (torch.bfloat16, torch.float32):
            x = torch.randn(rows, inputs, generator=generator).bfloat16().to(dtype)
            out = packed.packed_linear(x, own, bias_O, in_fp32=True)
            expected = F.linear(x.float(), weight_OI.float(), bias_O)
            assert (out - expected).norm() <= NEAR[to_int8] * expected.norm() + 1e-6
            rounded = packed.packed_linear(x, own, bias_O)
            assert torch.equal(rounded, out.to(dtype)), "in its own type it is the same, rounded"
            alone = packed.packed_linear(x[-1:], own, bias_O, in_fp32=True)
            assert torch.equal(alone[0], out[-1]), "a row gets the same bits alone as among others"
    torch.set_num_threads(cores)


@needs_compiler
def test_8_bits_keep_zeros_large_numbers_and_what_is_no_number():
    weight_OI = torch.zeros(40, 128)
    weight_OI[3, 5], weight_OI[4, 100] = 1e30, -1e-30
    own = packed.pack([weight_OI], to_int8=True)
    out = packed.packed_linear(torch.eye(128), own)
    torch.testing.assert_close(out, weight_OI.T, rtol=1e-2, atol=1e-35)
    for odd in (torch.nan, torch.inf):
        x = torch.zeros(2, 128)
        x[1, 70] = odd
        out = packed.packed_linear(x, own)
        assert out[0].isfinite().all() and not out[1].isfinite().any()


@needs_compiler
@pytest.mark.parametrize("to_int8", [False, True])
def test_packed_experts_are_the_experts(to_int8):
    generator = torch.Generator().manual_seed(0)
    gate, up = (torch.randn(5, 24, 40, generator=generator) / 6 for _ in range(2))
    down = torch.randn(5, 40, 24, generator=generator) / 5
    gate_up, own_down = packed.pack([gate, up], to_int8), packed.pack([down], to_int8)
    for rows in (1, 7, 1100):
        x_ND = torch.randn(rows, 40, generator=generator)
        experts_NK = torch.rand(rows, 4, generator=generator).topk(2).indices  # nobody chooses the last
        weights_NK = torch.rand(rows, 2, generator=generator)
        out = packed.packed_experts(x_ND, experts_NK, weights_NK, gate_up, own_down)
        inner = F.silu(torch.einsum("nd,efd->nef", x_ND, gate)) * torch.einsum("nd,efd->nef", x_ND, up)
        each = torch.einsum("nef,edf->ned", inner, down).gather(1, experts_NK[..., None].expand(-1, -1, 40))
        expected = (each * weights_NK[..., None]).sum(1)
        assert (out - expected).norm() < 2e-2 * expected.norm()
