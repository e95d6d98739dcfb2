"""A context computed once for all that may follow it gives what each alone gives."""

from itertools import chain

import pytest
import torch
from tests.tiny_models import VOCABULARY, tiny_model

from inhouse.engine.continuations import Branches, log_likelihoods
from inhouse.model.transformer import Transformer


def random_branches(count: int, generator: torch.Generator) -> list[Branches]:
    def ids(most: int) -> list[int]:
        size = int(torch.randint(1, most + 1, (1,), generator=generator))
        return torch.randint(0, VOCABULARY, (size,), generator=generator).tolist()

    return [Branches(ids(12), [ids(6) for _ in range(1 + number % 4)]) for number in range(count)]


@torch.inference_mode()
def alone(model: Transformer, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    tokens = torch.tensor([context + continuation])
    logits = model.logits(model(tokens[:, :-1]).hidden_BTD)[0, len(context) - 1 :]
    logprobs = logits.double().log_softmax(dim=-1)
    target = torch.tensor(continuation)
    return logprobs.gather(1, target[:, None]).sum().item(), bool((logits.argmax(dim=-1) == target).all())


@pytest.mark.parametrize("architecture", ["qwen3", "glm4_moe", "exaone_moe"])
@pytest.mark.parametrize("tokens_per_pass", [1, 64, 4096])
def test_branches_of_one_context_are_worth_what_each_alone_is(architecture: str, tokens_per_pass: int) -> None:
    model = tiny_model(architecture)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    packed = random_branches(20, generator)
    found = dict(chain.from_iterable(log_likelihoods(model, packed, tokens_per_pass)))
    assert sorted(found) == list(range(20))
    for number, (context, continuations) in enumerate(packed):
        for scored, continuation in zip(found[number], continuations, strict=True):
            expected, is_greedy = alone(model, context, continuation)
            assert scored.log_likelihood == pytest.approx(expected, abs=1e-4)
            assert scored.is_greedy == is_greedy


def test_the_likeliest_continuation_is_greedy() -> None:
    model = tiny_model()
    context = [1, 2, 3]
    with torch.inference_mode():
        likeliest = int(model.logits(model(torch.tensor([context])).hidden_BTD)[0, -1].argmax())
    (((_, scored),),) = log_likelihoods(model, [Branches(context, [[likeliest], [(likeliest + 1) % VOCABULARY]])])
    assert [each.is_greedy for each in scored] == [True, False]


def test_what_has_more_positions_than_the_model_is_refused() -> None:
    with pytest.raises(ValueError, match="take 33 positions, but the model 32"):
        list(log_likelihoods(tiny_model(), [Branches([1] * 30, [[1, 2], [1, 2, 3, 4]])]))
