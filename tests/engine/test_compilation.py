"""Compiled blocks say what the blocks say, for any number of tokens, in training and in generation."""

import pytest
import torch
from tests.engine.conftest import ByteTokenizer, new_model

from inhouse.engine.drafts.prompt_lookup import PromptLookup
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.model.compilation import can_compile, compile_blocks


@pytest.mark.parametrize(("kind", "speculation"), [("dense", "ngram"), ("short", "none")])
def test_a_compiled_engine_gives_the_same_tokens(kind, speculation, naive, prompts, monkeypatch):
    monkeypatch.setattr(PromptLookup, "propose", lambda self, tokens, most: [1] * most)
    model = new_model(kind)
    if not can_compile(model, trains=False):
        pytest.skip("no C++ compiler")
    torch._dynamo.reset()
    engine = Engine(model, ByteTokenizer(), EngineSettings(compile=True, speculation=speculation))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    params = [SamplingParams(max_tokens=3 + i, temperature=0, ignore_eos=True) for i in range(len(prompts))]
    completions = engine.generate(prompts, params)  # from all of them down to one
    assert [c.token_ids for c in completions] == [naive(kind, p, 3 + i) for i, p in enumerate(prompts)]
    assert (engine.num_drafted > 0) == (speculation == "ngram")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs, "compiled while requests waited"


def test_one_graph_serves_every_cut_of_tokens_into_sequences():
    model, plain = new_model("dense"), new_model("dense")
    if not can_compile(model, trains=True):
        pytest.skip("no C++ compiler")
    compile_blocks(model)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    tokens = torch.randint(0, 300, (64,))
    for rows in (1, 4):
        hidden = [each(tokens.view(rows, -1)).hidden_BTD for each in (model, plain)]
        torch.testing.assert_close(*hidden, rtol=1e-4, atol=1e-5)
        grads = [
            torch.autograd.grad(h.pow(2).sum(), m.embed_tokens.weight)[0]
            for h, m in zip(hidden, (model, plain), strict=True)
        ]
        torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # before attention, and after it


def test_without_a_compiler_the_engine_runs_uncompiled(naive, prompts, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    engine = Engine(new_model("dense"), ByteTokenizer(), EngineSettings(compile=True))
    params = SamplingParams(max_tokens=3, temperature=0, ignore_eos=True)
    assert engine.generate(prompts[3:4], params)[0].token_ids == naive("dense", prompts[3], 3)
    assert not can_compile(new_model("moe"), trains=False)
