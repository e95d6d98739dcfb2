"""Compiled decoding says what the model says."""

import pytest

from inhouse.engine import SamplingParams
from inhouse.engine.compiled import CompiledForward, can_compile


def test_compiled_decoding_gives_the_same_tokens(models, new_engine, naive, prompts):
    if not can_compile(models["dense"]):
        pytest.skip("no C++ compiler")
    engine = new_engine("dense", compile=True)
    assert isinstance(engine._decode, CompiledForward)
    params = [SamplingParams(max_tokens=3 + i, temperature=0, ignore_eos=True) for i in range(len(prompts))]
    completions = engine.generate(prompts, params)  # from all of them down to one
    assert [c.token_ids for c in completions] == [naive("dense", p, 3 + i) for i, p in enumerate(prompts)]


def test_without_a_compiler_the_engine_runs_uncompiled(models, new_engine, naive, prompts, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    engine = new_engine("dense", compile=True)
    params = SamplingParams(max_tokens=3, temperature=0, ignore_eos=True)
    assert engine.generate(prompts[3:4], params)[0].token_ids == naive("dense", prompts[3], 3)
    assert not can_compile(models["moe"])
