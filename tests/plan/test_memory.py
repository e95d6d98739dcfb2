"""What lives at the same time is counted right, and an update's share of it is bounded."""

from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from inhouse.plan.dry_run import dry_run
from inhouse.plan.memory import Allocated
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import load_recipe

GB = 10**9


@pytest.mark.parametrize("mode", [nullcontext, FakeTensorMode])
def test_it_counts_what_lives_at_the_same_time(mode: type) -> None:
    with mode():
        before = torch.zeros(1000)
        with Allocated() as found:
            a = before + 1  # 4,000 bytes
            view = a[:10]
            a.add_(1)
            del a
            assert found.bytes == 4000  # the view holds it
            b = before.double()  # 8,000
            del view, b
            assert found.bytes == 0
            c = before.half()
        assert (found.bytes, found.peak) == (2000, 12_000)
        del c
        assert found.bytes == 0


@pytest.mark.parametrize(("recipe", "world"), [("gpu", 1), ("node", 8)])
def test_an_update_of_a_ready_recipe_takes_at_most_4_gb(recipe: str, world: int) -> None:
    loaded = load_recipe(find_recipe(recipe))
    config, _ = loaded.model.resolve(loaded.tokenizer.vocab_size)
    one = {"batch_tokens": loaded.pretrain.sequence_length * world, "micro_batch_tokens": None}
    run = dry_run(config, loaded.pretrain.model_copy(update=one), loaded.parallel, world)
    assert GB / 4 < run.update_bytes <= 4 * GB
