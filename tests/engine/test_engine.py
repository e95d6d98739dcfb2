"""Whatever is batched, shared, cut into chunks or interrupted: every request gets what it would get alone."""

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.engine.conftest import ByteTokenizer, new_model
from tests.truncated import truncated

from inhouse.checkpoint.model_folder import save_model
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings

EMBED = SamplingParams(max_tokens=1, embed=True)
GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
KINDS = ("dense", "moe", "local")


def full_forward(model, tokens):
    with torch.no_grad():
        out = model(torch.tensor([tokens]))
        return model.logits(out.hidden_BTD)[0].log_softmax(-1), out.routing


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_prefill", [2048, 7])
def test_greedy_tokens_are_those_of_full_forward_passes(kind, max_prefill, new_engine, naive, prompts):
    engine = new_engine(kind, max_sequences=4, max_prefill=max_prefill)
    completions = engine.generate(prompts, GREEDY)
    assert [c.token_ids for c in completions] == [naive(kind, prompt, 12) for prompt in prompts]
    assert engine.pages_in_use == engine.num_running == len(engine._scheduler.waiting) == 0


@pytest.mark.parametrize(
    ("prompts", "page_size", "max_prefill"),
    [
        ([[5, 6, 7]], 16, 1),
        ([[5], [6, 7, 8]], 16, 2),  # one token of a step is of a prompt that goes on
        ([[5], [5, 6]], 1, 2048),  # the second shares a page that the first fills in the same step
        ([[1, 2, 3, 4], [1, 2, 3, 4, 5]], 4, 3),
    ],
)
def test_steps_of_single_tokens(prompts, page_size, max_prefill, new_engine, naive):
    engine = new_engine("moe", page_size=page_size, max_prefill=max_prefill)
    for _ in range(2):
        completions = engine.generate(prompts, GREEDY)
        assert [c.token_ids for c in completions] == [naive("moe", prompt, 12) for prompt in prompts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_prefill", [2048, 7])
def test_logprobs_and_experts_are_those_of_a_full_forward_pass(kind, max_prefill, models, new_engine, prompts):
    params = SamplingParams(max_tokens=9, seed=3, ignore_eos=True, logprobs=3, prompt_logprobs=True, experts=True)
    completions = new_engine(kind, max_prefill=max_prefill).generate(prompts, params)
    for prompt, completion in zip(prompts, completions, strict=True):
        tokens = prompt + completion.token_ids
        expected, routing = full_forward(models[kind], tokens)
        positions = range(len(prompt) - 1, len(tokens) - 1)
        known = [p.logprob for p in completion.prompt_logprobs] + completion.logprobs
        wanted = expected[range(len(tokens) - 1), tokens[1:]].tolist()
        assert known == pytest.approx(wanted, abs=1e-4)
        assert completion.sampling_logprobs == pytest.approx(completion.logprobs, abs=1e-5)  # nothing was truncated
        tops = [p.top for p in completion.prompt_logprobs] + completion.top_logprobs
        for position, top in zip([*range(len(prompt) - 1), *positions], tops, strict=True):
            assert [logprob for _, logprob in top] == pytest.approx(expected[position].topk(3)[0].tolist(), abs=1e-4)
        if kind == "dense":
            assert completion.experts is None
        else:
            chosen = torch.stack([r.experts_NK for r in routing], dim=1)[:-1].sort(-1)[0]
            assert torch.from_numpy(completion.experts).sort(-1)[0].tolist() == chosen.tolist()


@pytest.mark.parametrize("speculation", ["none", "ngram"])
def test_kept_is_what_truncation_left_at_every_position(speculation, new_engine, models, prompts):
    how = {"temperature": 0.7, "top_k": 40, "top_p": 0.8, "min_p": 0.01}
    plain = SamplingParams(max_tokens=9, seed=1, ignore_eos=True, **how)
    params = [plain.model_copy(update={"kept": place % 2 == 0}) for place in range(len(prompts))]
    completions = new_engine(speculation=speculation).generate(prompts, params)
    assert all(completion.kept is None for completion in completions[1::2])
    for prompt, completion in list(zip(prompts, completions, strict=True))[::2]:
        with torch.no_grad():
            out = models["dense"](torch.tensor([prompt + completion.token_ids]))
            logits_TV = models["dense"].logits(out.hidden_BTD)[0, len(prompt) - 1 : -1]
        kept_TV = truncated(logits_TV, *(torch.full((len(logits_TV),), value) for value in how.values())).isfinite()
        sets = np.split(completion.kept.ids, completion.kept.ends[:-1])
        assert [each.tolist() for each in sets] == [row.nonzero()[:, 0].tolist() for row in kept_TV]
        assert all(token in each for token, each in zip(completion.token_ids, sets, strict=True))
        assert (completion.kept.ids.dtype, completion.kept.ends.dtype) == (np.int32, np.int64)


def test_sampling_logprobs_are_under_the_truncated_distribution(new_engine, models, prompts):
    params = SamplingParams(max_tokens=20, seed=1, temperature=0.7, top_k=5, top_p=0.8, ignore_eos=True)
    for prompt, completion in zip(prompts, new_engine().generate(prompts, params), strict=True):
        tokens = prompt + completion.token_ids
        expected, _ = full_forward(models["dense"], tokens)
        for i, (token, known) in enumerate(zip(completion.token_ids, completion.sampling_logprobs, strict=True)):
            scaled = (expected[len(prompt) - 1 + i] / 0.7).topk(5)
            inside = scaled.values.softmax(-1)
            size = int((inside.cumsum(-1) - inside < 0.8).sum())
            candidates = dict(zip(scaled.indices[:size].tolist(), inside[:size] / inside[:size].sum(), strict=True))
            assert known == pytest.approx(float(candidates[token].log()), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_prefill", [2048, 7, 1])
def test_embeddings_are_the_means_of_a_full_forward_pass(kind, max_prefill, models, new_engine, prompts):
    """However a prompt is cut, what others have in the cache of it, and up to the context's last token."""
    engine = new_engine(kind, max_prefill=max_prefill)
    prompts = [*prompts, (prompts[-1] * 4)[:128]]
    engine.generate(prompts[:-1], GREEDY)
    for found, prompt in zip(engine.embed(prompts), prompts, strict=True):
        with torch.no_grad():
            expected = models[kind](torch.tensor([prompt])).hidden_BTD[0].mean(dim=0)
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-5)
    with pytest.raises(ValueError, match="129 tokens"):
        engine.embed([[1] * 129])
    assert engine.pages_in_use == engine.num_running == 0


def test_embeddings_that_wait_again_are_summed_once(models, new_engine, prompts, naive):
    """Among answers that grow into a small cache, so that the youngest is sent back."""
    engine = new_engine("dense", num_pages=12, page_size=8, max_prefill=5)
    wanted = [prompts[3], prompts[4], prompts[-1], prompts[-1]]
    params = [GREEDY.model_copy(update={"max_tokens": 40})] * 2 + [EMBED] * 2
    done = engine.generate(wanted, params)
    assert [c.token_ids for c in done[:2]] == [naive("dense", prompt, 40) for prompt in wanted[:2]]
    with torch.no_grad():
        expected = models["dense"](torch.tensor([prompts[-1]])).hidden_BTD[0].mean(dim=0)
    for completion in done[2:]:
        assert torch.allclose(torch.from_numpy(completion.embedding), expected, atol=1e-5)
        assert len(completion.token_ids) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_when_pages_run_out_the_youngest_starts_again_and_nothing_changes(kind, new_engine, naive, prompts):
    engine = new_engine(kind, num_pages=8, page_size=8)
    vacated = []
    vacate = engine._scheduler._vacate
    engine._scheduler._vacate = lambda sequence: (vacated.append(sequence.id), vacate(sequence))
    params = GREEDY.model_copy(update={"max_tokens": 16, "prompt_logprobs": True, "experts": True})
    completions = engine.generate(prompts, params)
    assert len(vacated) > len(prompts) + 2, "the test is to preempt"
    assert [c.token_ids for c in completions] == [naive(kind, prompt, 16) for prompt in prompts]
    for prompt, completion in zip(prompts, completions, strict=True):
        assert len(completion.prompt_logprobs) == len(prompt) - 1
        assert kind == "dense" or len(completion.experts) == len(prompt) + 15


def test_preempted_requests_draw_the_same_tokens(new_engine, prompts):
    params = [SamplingParams(max_tokens=24, seed=i, ignore_eos=True) for i in range(len(prompts))]
    short, ample = new_engine(num_pages=9, page_size=8), new_engine()
    assert [c.token_ids for c in short.generate(prompts, params)] == [
        c.token_ids for c in ample.generate(prompts, params)
    ]


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_samples_of_one_prompt_share_its_full_pages(kind, new_engine, naive, prompts):
    engine = new_engine(kind, page_size=8)
    prompt = prompts[-1]  # five full pages, of which the last token's is not shared
    params = GREEDY.model_copy(update={"experts": True})
    ids = [engine.add(prompt, params) for _ in range(4)]
    outputs = engine.step()
    assert engine.pages_in_use == 4 + 4 * 1
    completions = []
    while len(completions) < 4:
        outputs = engine.step()
        completions += [output.completion for output in outputs if output.completion]
    assert [c.token_ids for c in completions] == [naive(kind, prompt, 12)] * 4
    assert {c.id for c in completions} == set(ids)
    if kind == "moe":
        assert all((c.experts == completions[0].experts).all() for c in completions)


def test_a_later_request_reuses_the_beginning_that_it_shares(new_engine, naive, prompts):
    engine = new_engine(page_size=8)
    first = engine.generate([prompts[-1]], GREEDY)[0]
    longer = prompts[-1] + first.token_ids + [5, 6]
    engine.add(longer, GREEDY)
    assert engine._scheduler.schedule(64)[0].sequence.num_computed == 51  # all but the last of the answer
    engine.abort(1)
    assert engine.generate([longer], GREEDY)[0].token_ids == naive("dense", longer, 12)


def test_new_weights_forget_what_was_cached(new_engine, prompts):
    engine = new_engine(page_size=8)
    engine.generate([prompts[-1]], GREEDY)
    engine.forget_prefixes()
    engine.add(prompts[-1], GREEDY)
    assert engine._scheduler.schedule(64)[0].sequence.num_computed == 0


def test_a_seed_gives_the_same_tokens_in_every_company(new_engine, prompts):
    own = SamplingParams(max_tokens=16, seed=42, top_p=0.9, temperature=1.2, ignore_eos=True)
    alone = new_engine().generate([prompts[4]], own)[0].token_ids
    others = [
        SamplingParams(max_tokens=5 + i, seed=i, temperature=i / 3, top_k=i, ignore_eos=True)
        for i in range(len(prompts))
    ]
    others[4] = own
    together = new_engine(max_sequences=3, max_prefill=11).generate(prompts, others)
    assert together[4].token_ids == alone
    again = new_engine().generate([prompts[4]] * 3, [own, own, own.model_copy(update={"seed": 43})])
    assert again[0].token_ids == again[1].token_ids == alone != again[2].token_ids
    unseeded = new_engine().generate([prompts[4]] * 2, own.model_copy(update={"seed": None}))
    assert unseeded[0].token_ids != unseeded[1].token_ids


def test_stop_tokens_end_a_request_and_are_no_text(new_engine, naive, prompts):
    greedy = naive("dense", prompts[4], 12)
    stop = next(token for token in greedy[3:] if token not in greedy[:3])
    end = greedy.index(stop)
    completion = new_engine().generate([prompts[4]], GREEDY.model_copy(update={"stop_token_ids": (stop,)}))[0]
    assert completion.finish_reason == "stop" and completion.token_ids == greedy[: end + 1]
    assert completion.text == bytes(i for i in greedy[:end] if i < 256).decode(errors="replace")


def test_end_tokens_end_a_request_unless_ignored(models, prompts, naive):
    greedy = naive("dense", prompts[4], 12)

    class Ending:
        end_of_document, end_of_turn, skipped = greedy[5], 299, frozenset()

        def decode_bytes(self, ids):
            return b"x"

    engine = Engine(models["dense"], Ending())
    ended, ignored = engine.generate([prompts[4]] * 2, [GREEDY.model_copy(update={"ignore_eos": False}), GREEDY])
    assert ended.finish_reason == "stop" and ended.token_ids == greedy[: greedy.index(greedy[5]) + 1]
    assert ignored.finish_reason == "length" and ignored.token_ids == greedy


def test_stop_strings_across_tokens_end_a_request(models, prompts, naive):
    class Words:
        end_of_document = end_of_turn = 299
        skipped = frozenset[int]()

        def decode_bytes(self, ids):
            return b"".join(f"<{i}>".encode() for i in ids)

    greedy = naive("dense", prompts[4], 12)
    stop = f"{greedy[6]}><{greedy[7]}"
    engine = Engine(models["dense"], Words())
    streamed = ""
    engine.add(prompts[4], GREEDY.model_copy(update={"stop": ("never", stop)}))
    completion = None
    while completion is None:
        (output,) = engine.step()
        streamed, completion = streamed + output.text, output.completion
    whole = Words().decode_bytes(greedy).decode()
    assert completion.finish_reason == "stop" and len(completion.token_ids) < 12
    assert streamed == completion.text == whole[: whole.index(stop)]


def test_the_end_of_the_context_ends_a_request(new_engine):
    completion = new_engine().generate([[7] * 120], GREEDY.model_copy(update={"max_tokens": 1000}))[0]
    assert completion.finish_reason == "length" and len(completion.token_ids) == 8


def test_a_cache_smaller_than_the_context_bounds_the_context(new_engine):
    engine = new_engine(num_pages=3)
    assert engine.max_context == 48
    assert len(engine.generate([[7] * 40], GREEDY)[0].token_ids) == 8


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_abort_frees_pages_at_once_and_returns_what_there_is(steps, new_engine, naive, prompts):
    engine = new_engine()
    kept, gone = engine.add(prompts[5], GREEDY), engine.add(prompts[6], GREEDY)
    for _ in range(steps):
        engine.step()
    pages = engine.pages_in_use
    completion = engine.abort(gone)
    assert completion.finish_reason == "abort" and completion.token_ids == naive("dense", prompts[6], steps)
    assert engine.pages_in_use == (0 if not steps else pages - 3)
    assert engine.abort(gone) is None
    done = []
    while not done:
        outputs = engine.step()
        assert all(output.id == kept for output in outputs)
        done = [output.completion for output in outputs if output.completion]
    assert done[0].token_ids == naive("dense", prompts[5], 12)


@pytest.mark.parametrize(
    ("prompt", "said"), [([], "empty"), ([1] * 128, "128 tokens"), ([300], "outside"), ([-1], "outside")]
)
def test_prompts_that_no_model_takes_are_refused(prompt, said, new_engine):
    engine = new_engine()
    with pytest.raises(ValueError, match=said):
        engine.add(prompt, GREEDY)
    assert not engine._scheduler.waiting


def test_settings_out_of_range_are_refused(models):
    for wrong in (
        {"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1},
        {"max_tokens": 0}, {"stop": ("",)}, {"seed": 2**64}, {"heat": 1},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            SamplingParams(**({"max_tokens": 1} | wrong))
    with pytest.raises(ValueError, match="cache_gib"):
        Engine(models["dense"], None, EngineSettings(cache_gib=1e-9))


def test_generate_leaves_the_worlds_settings_alone(new_engine, prompts):
    before = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    new_engine("moe").generate(prompts, SamplingParams(max_tokens=3, ignore_eos=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before[1:]


class Letters:
    end_of_document, end_of_turn, skipped = 256, 257, frozenset()

    def decode_bytes(self, ids):
        return b"x" * len(ids)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 40), st.integers(1, 30), st.integers(0, 2)),
        st.tuples(st.just("abort"), st.integers(0, 20)),
        st.tuples(st.just("step"), st.integers(1, 6)),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(actions=ACTIONS)
def test_pages_never_leak(actions, models):
    bytes_of_30_pages = 30 * 4 * 256
    limits = EngineSettings(page_size=4, max_sequences=5, max_prefill=16, cache_gib=bytes_of_30_pages / 2**30)
    engine = Engine(models["dense"], Letters(), limits)
    assert engine.num_pages == 30
    added: list[int] = []
    ended: set[int] = set()

    def step():
        for output in engine.step():
            assert output.id not in ended
            if output.completion is not None:
                ended.add(output.id)
        held = [page for sequence in engine._scheduler.running for page in sequence.pages]
        assert engine.pages_in_use == len(set(held))
        assert engine.num_running <= 5
        assert all(len(s.pages) == -(-len(s.tokens) // 4) or s.num_missing == 1 for s in engine._scheduler.running)

    for action, *numbers in actions:
        if action == "add":
            length, max_tokens, first = numbers
            added.append(engine.add([first] * length, SamplingParams(max_tokens=max_tokens, ignore_eos=True)))
        elif action == "abort" and added:
            identity = added[numbers[0] % len(added)]
            assert (engine.abort(identity) is None) == (identity in ended)
            ended.add(identity)
        elif action == "step":
            for _ in range(numbers[0]):
                step()
    for _ in range(3000):
        if len(ended) == len(added):
            break
        step()
    assert len(ended) == len(added), "every request ends"
    assert engine.pages_in_use == engine.num_running == len(engine._scheduler.waiting) == 0
    assert sorted(engine._scheduler._free_rows) == list(range(5))


@torch.no_grad()
def test_a_model_of_scaled_rope_says_what_transformers_says(prompts, tmp_path):
    """YaRN, far beyond the original length; the same tokens, and log-probabilities to the last digits of fp32."""
    scaling = {"factor": 8.0, "original_length": 16, "beta_fast": 4.0, "beta_slow": 0.25}
    model = new_model("dense", rope_scaling=scaling)
    save_model(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    engine = Engine(model, ByteTokenizer(), EngineSettings(compile=False))
    params = SamplingParams(max_tokens=60, temperature=0, ignore_eos=True, logprobs=1)
    for prompt, done in zip(prompts, engine.generate(prompts, params), strict=True):
        expected = theirs(torch.tensor([prompt + done.token_ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert done.token_ids == expected.argmax(dim=-1).tolist()
        ours = torch.tensor(done.logprobs)
        torch.testing.assert_close(ours, expected.max(dim=-1).values, rtol=1e-4, atol=1e-5)
