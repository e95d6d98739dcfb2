"""A whole step of decoding in one call says what the model says, in any shape and number."""

import pytest
import torch
from tests.engine.conftest import CONFIGS, ByteTokenizer

from inhouse.engine.cache.kv_cache import KVCache
from inhouse.engine.cpu import decode_step
from inhouse.engine.cpu.decode_step import NativeDecoder
from inhouse.engine.engine import Engine
from inhouse.engine.paged_attention import Places
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.model.config import ModelConfig
from inhouse.model.cpu import choice, native
from inhouse.model.cpu.choice import Layout
from inhouse.model.transformer import Transformer

pytestmark = pytest.mark.skipif(native.find_compiler() is None, reason="no C++ compiler")
PAGE = 4
SHAPES = {
    "dense": CONFIGS["dense"],
    "odd": CONFIGS["dense"] | {"vocab_size": 301, "hidden_size": 71, "num_heads": 3, "num_kv_heads": 1, "head_dim": 80,
                               "intermediate_size": 131, "attention_bias": True, "tie_embeddings": True},
    "wide": CONFIGS["dense"] | {"hidden_size": 192, "num_heads": 8, "head_dim": 64, "intermediate_size": 640},
    "long heads": CONFIGS["dense"] | {"hidden_size": 128, "head_dim": 128, "num_kv_heads": 4},
    "moe": CONFIGS["moe"] | {"routed_scaling_factor": 1.5},
    "moe, bare": CONFIGS["moe"] | {"qk_norm": False, "partial_rotary_factor": 0.5, "head_dim": 16,
                                   "attention_bias": True, "num_experts_per_token": 5},
    "moe, groups": CONFIGS["moe"] | {"num_experts": 8, "num_expert_groups": 4, "num_groups_per_token": 2},
    "local": CONFIGS["local"],
    "scaled": CONFIGS["dense"] | {"rope_scaling": {"factor": 4.0, "original_length": 8, "beta_fast": 4.0,
                                                   "beta_slow": 0.5, "attention_factor": 1.4}},
}  # fmt: skip


def new_model(shape: str, dtype: torch.dtype, weights_dtype: torch.dtype | None = None) -> Transformer:
    """With weights that bf16 holds."""
    model = Transformer(ModelConfig(**SHAPES[shape]), dtype)
    model.normalizes_embedding = shape == "wide"
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            deviation = 0.5 if weight.dim() < 2 or "embed" in name else weight.shape[-1] ** -0.5
            weight.normal_(1.0 if name.endswith("norm.weight") else 0.0, deviation, generator=generator)
            weight.copy_(weight.bfloat16())
    if weights_dtype is not None:
        for name, weight in model.named_parameters():
            if "mlp.gate." not in name:
                weight.data = weight.data.to(weights_dtype)
    return model


class Sequences:
    """Tokens of sequences of several lengths, and pages for them."""

    def __init__(self, model: Transformer, num: int, length: int) -> None:
        generator = torch.Generator().manual_seed(num)
        self.tokens_NT = torch.randint(0, model.config.vocab_size, (num, length), generator=generator)
        num_pages = num * -(-length // PAGE)
        self.table_RP = torch.randperm(num_pages, generator=generator).view(num, -1)
        self.rows_N = torch.randperm(num, generator=generator)
        self.cache = KVCache(model.config, num_pages, PAGE, model.dtype, torch.device("cpu"))

    def decode(self, decoder: NativeDecoder, chosen: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, T, V) of the chosen sequences, token by token, and their experts (n, T, MoE layers, K)."""
        logits, experts = [], []
        for position in range(self.tokens_NT.shape[1]):
            positions = torch.full((len(chosen),), position)
            tokens, places = self.tokens_NT[chosen, position].contiguous(), (self.rows_N[chosen], positions)
            out, totals, layers, _ = decoder(tokens, Places(self.table_RP, *places), torch.arange(len(chosen)))
            torch.testing.assert_close(totals, out.logsumexp(dim=-1), rtol=1e-5, atol=1e-5)
            logits.append(out)
            experts.append(torch.stack([*layers, torch.zeros(len(chosen), 0)][:-1] or [torch.zeros(len(chosen), 0)], 1))
        return torch.stack(logits, dim=1), torch.stack(experts, dim=1)


def full(model: Transformer, tokens_NT: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    with torch.no_grad():
        out = model(tokens_NT)
        return model.logits(out.hidden_BTD), [layer.experts_NK for layer in out.routing]


def error(logits: torch.Tensor, expected: torch.Tensor) -> float:
    """Of a usual token: a near expert may change places in another."""
    return float(((logits - expected).norm(dim=-1) / expected.norm(dim=-1)).median())


def kl(logits: torch.Tensor, expected: torch.Tensor) -> float:
    own, true = logits.log_softmax(-1), expected.log_softmax(-1)
    return float((true.exp() * (true - own)).sum(-1).mean())


@pytest.mark.parametrize(
    ("shape", "num"),
    [(shape, num) for shape in SHAPES for num in (1, 3, 70) if num > 1 or "num_experts" not in SHAPES[shape]],
)
def test_in_bf16_it_is_as_near_to_fp32_as_the_model_in_bf16(shape, num, monkeypatch):
    monkeypatch.setattr(choice, "layout", lambda weight, to_int8: Layout.BF16)
    length = {1: 30, 3: 11, 70: 5}[num]
    exact, plain, own = (
        new_model(shape, torch.float32),
        new_model(shape, torch.bfloat16, torch.bfloat16),
        new_model(shape, torch.bfloat16, torch.bfloat16),
    )
    own.pack()
    sequences = Sequences(own, num, length)
    logits, experts = sequences.decode(NativeDecoder(own, sequences.cache.pages), list(range(num)))
    expected, routing = full(exact, sequences.tokens_NT)
    assert error(logits, expected) < 1.1 * error(full(plain, sequences.tokens_NT)[0], expected)
    for layer, chosen in enumerate(routing):
        same = experts[:, :, layer].sort(-1)[0] == chosen.view(num, length, -1).sort(-1)[0]
        assert same.float().mean() > 0.9, "a near expert may change places"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", ["odd", "wide", "moe", "local"])
def test_in_8_bits_it_is_near(shape, dtype):
    exact, own = new_model(shape, torch.float32), new_model(shape, dtype, dtype)
    own.pack(to_int8=True)
    sequences = Sequences(own, 9, 12)
    logits, _ = sequences.decode(NativeDecoder(own, sequences.cache.pages), list(range(9)))
    expected, routing = full(exact, sequences.tokens_NT)
    assert kl(logits, expected) < (0.03 if routing else 0.01)
    assert kl(full(own, sequences.tokens_NT)[0], expected) < (0.03 if routing else 0.01), "prompts too"


@pytest.mark.parametrize("layout", [Layout.BF16, Layout.INT8])
@pytest.mark.parametrize("shape", ["odd", "moe"])
def test_a_sequence_gets_the_same_bits_alone_as_among_others_and_by_any_threads(shape, layout, monkeypatch):
    monkeypatch.setattr(choice, "layout", lambda weight, to_int8: layout)
    model = new_model(shape, torch.bfloat16, torch.bfloat16)
    model.pack(to_int8=layout is Layout.INT8)
    sequences, cores = Sequences(model, 20, 6), torch.get_num_threads()
    decoder = NativeDecoder(model, sequences.cache.pages)
    results = {}
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results[threads] = sequences.decode(decoder, list(range(20)))[0]
    torch.set_num_threads(cores)
    assert torch.equal(results[1], results[2]) and torch.equal(results[1], results[3])
    for some in ([7], [19, 2], list(range(5, 14))):
        assert torch.equal(sequences.decode(decoder, some)[0], results[1][some])


@pytest.mark.parametrize("shape", ["dense", "moe", "local"])
def test_many_tokens_of_a_sequence_in_one_call_are_those_of_a_call_each(shape, monkeypatch):
    """With the logits behind those alone that are wanted, in any order; none may be."""
    monkeypatch.setattr(choice, "layout", lambda weight, to_int8: Layout.BF16)
    model = new_model(shape, torch.bfloat16, torch.bfloat16)
    model.pack()
    sequences = Sequences(model, 3, 13)
    one_by_one = sequences.decode(NativeDecoder(model, sequences.cache.pages), [0, 1, 2])[0].flatten(0, 1)
    again = Sequences(model, 3, 13)
    decoder = NativeDecoder(model, again.cache.pages)
    places = Places(again.table_RP, again.rows_N.repeat_interleave(13), torch.arange(13).repeat(3))
    for wanted in ([12, 25, 38], [38, 3], [], list(range(39))):
        logits, totals, experts, hidden = decoder(
            again.tokens_NT.flatten(), places, torch.tensor(wanted, dtype=torch.int64)
        )
        assert torch.equal(logits, one_by_one[wanted]) and totals.shape == (len(wanted),)
        assert all(len(layer) == 39 for layer in experts) and hidden.shape == (39, model.config.hidden_size)


@pytest.fixture
def packed_engine(monkeypatch):
    """`packed_engine(shape, weights)`: an engine of a model in our layout, whatever this machine's choice."""

    def build(shape: str = "dense", weights: str = "int8", **settings: object) -> Engine:
        if weights == "auto":
            monkeypatch.setattr(choice, "layout", lambda weight, to_int8: Layout.BF16)
        model = new_model(shape, torch.bfloat16, torch.bfloat16)
        model.pack(to_int8=weights == "int8")
        assert decode_step.is_there(model)
        return Engine(model, ByteTokenizer(), EngineSettings(weights=weights, **settings))

    return build


@pytest.mark.parametrize("weights", ["auto", "int8"])
@pytest.mark.parametrize("kind", ["dense", "moe", "local"])
def test_an_engine_says_of_its_answers_what_the_packed_model_says(kind, weights, packed_engine, prompts):
    engine = packed_engine(kind, weights, max_sequences=4, page_size=PAGE, max_prefill=7)
    params = SamplingParams(max_tokens=9, seed=3, ignore_eos=True, logprobs=2, experts=True)
    completions, apart = engine.generate(prompts, params), []
    for prompt, completion in zip(prompts, completions, strict=True):
        tokens = torch.tensor([prompt + completion.token_ids])
        logits, routing = full(engine.model, tokens)
        known = logits[0].log_softmax(-1)[torch.arange(len(prompt) - 1, tokens.shape[1] - 1), completion.token_ids]
        apart.append((known - torch.tensor(completion.logprobs)).abs())
        if routing:
            assert completion.experts.shape == (tokens.shape[1] - 1, len(routing), routing[0].shape[1])
            chosen = torch.stack(routing, dim=1)[:-1].sort(-1)[0]
            assert (torch.from_numpy(completion.experts).sort(-1)[0] == chosen).float().mean() > 0.85
    assert torch.cat(apart).median() < (0.05 if kind == "dense" else 0.2)  # experts that score alike change places


@pytest.mark.parametrize("weights", ["auto", "int8"])
def test_a_prompt_that_takes_several_steps_alone(weights, packed_engine):
    """A step in which nobody is ready for a token asks for no logits."""
    prompt, params = list(range(40)), SamplingParams(max_tokens=3, temperature=0, ignore_eos=True)
    completions = [packed_engine("dense", weights, max_prefill=most).generate([prompt], params)[0] for most in (9, 64)]
    assert completions[0].token_ids == completions[1].token_ids


def test_what_is_no_number_ends_its_request_and_no_other(packed_engine):
    engine = packed_engine()
    with torch.no_grad():
        engine.model.embed_tokens.weight[7] = torch.nan
    params, outputs = SamplingParams(max_tokens=4, ignore_eos=True), {}
    failing, other = engine.add([7, 7], params), engine.add([8, 9], params)
    while engine.num_running or engine._scheduler.waiting:
        for output in engine.step():
            outputs[output.id] = output
    assert "not a number" in outputs[failing].reason and outputs[other].finish_reason == "length"


def test_small_weights_that_change_are_read_again(packed_engine):
    engine, params = packed_engine(), SamplingParams(max_tokens=6, temperature=0, ignore_eos=True, logprobs=1)
    before = engine.generate([[5, 6]], params)[0]
    with torch.no_grad():
        engine.model.norm.weight.mul_(-1.0)
    engine.forget_prefixes()
    after = engine.generate([[5, 6]], params)[0]
    assert before.token_ids != after.token_ids
    logits, _ = full(engine.model, torch.tensor([[5, 6, *after.token_ids]]))
    known = logits[0].log_softmax(-1)[torch.arange(1, 7), after.token_ids]
    assert (known - torch.tensor(after.logprobs)).abs().max() < 0.1


def test_an_engine_of_8_bits_wants_a_model_of_8_bits():
    with pytest.raises(ValueError, match="weights = int8, but the model has others"):
        Engine(new_model("dense", torch.float32), ByteTokenizer(), EngineSettings(weights="int8"))
