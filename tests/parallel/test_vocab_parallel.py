"""Rows of embedding and head in two processes give what the whole ones give in one."""

import pytest
import torch
import torch.distributed as dist
from tests.processes import in_processes
from torch import Tensor, nn

from inhouse.model import cross_entropy as module
from inhouse.model.cross_entropy import NOT_TRAINED, CrossEntropy, cross_entropy_reference
from inhouse.parallel.vocab_parallel import VocabParallelCrossEntropy, look_up_in_group

PROCESSES, TOKENS, WIDTH, VOCABULARY = 2, 25, 8, 30
FACTOR, Z_WEIGHT = 0.3, 0.01  # the factor is what each process multiplies its loss with


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states and targets of all processes' tokens, and the head. Logits of up to about 100."""
    generator = torch.Generator().manual_seed(0)
    hidden, head = (torch.randn(n, WIDTH, generator=generator) for n in (PROCESSES * TOKENS, VOCABULARY))
    targets = torch.randint(0, VOCABULARY, (PROCESSES * TOKENS,), generator=generator)
    targets[::3] = NOT_TRAINED
    return 10 * hidden, head, targets


def mine(tensor: Tensor) -> Tensor:
    return tensor.chunk(PROCESSES)[dist.get_rank()].clone()


def loss_here(dtype: torch.dtype, logits_at_once: int, is_compiled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """This process's loss, and the gradients of its hidden states and of its rows of the head."""
    module.LOGITS_AT_ONCE = logits_at_once
    hidden, head, targets = (mine(tensor) for tensor in inputs())
    hidden, head = hidden.to(dtype).requires_grad_(), head.requires_grad_()
    assert dist.group.WORLD is not None
    like = CrossEntropy(Z_WEIGHT)
    like = like.compiled() if is_compiled else like
    loss = VocabParallelCrossEntropy(dist.group.WORLD, like)(hidden, head, targets)
    (loss * FACTOR).backward()
    assert hidden.grad is not None and head.grad is not None
    return loss.detach(), hidden.grad, head.grad


SLICES = 7 * VOCABULARY // PROCESSES


@pytest.mark.parametrize(
    ("dtype", "tolerance", "logits_at_once", "is_compiled"),
    [
        pytest.param(torch.float32, 1e-5, 1 << 20, False, id="whole"),
        pytest.param(torch.float32, 1e-5, SLICES, False, id="slices"),
        pytest.param(torch.bfloat16, 2e-2, SLICES, False, id="bf16"),
        pytest.param(torch.bfloat16, 2e-2, 25 * VOCABULARY // PROCESSES, True, id="compiled"),
    ],
)
def test_loss_and_gradients_are_those_of_the_whole_head(
    dtype: torch.dtype, tolerance: float, logits_at_once: int, is_compiled: bool
) -> None:
    hidden, head, targets = inputs()
    hidden, head = hidden.to(dtype).requires_grad_(), head.requires_grad_()
    parts = zip(hidden.chunk(PROCESSES), targets.chunk(PROCESSES), strict=True)
    losses = [cross_entropy_reference(part, head, wanted, Z_WEIGHT) for part, wanted in parts]
    (FACTOR * sum(losses)).backward()
    found = in_processes(PROCESSES, loss_here, dtype, logits_at_once, is_compiled)
    for (loss, _, _), wanted in zip(found, losses, strict=True):
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for index, whole in ((1, hidden.grad), (2, head.grad)):
        assert whole is not None
        assert (torch.cat([parts[index] for parts in found]) - whole).norm() <= tolerance * whole.norm()


def found_here() -> tuple[Tensor, Tensor]:
    """The embeddings of this process's tokens, and the gradient of its rows where each token counts its number."""
    _, table, tokens = inputs()
    embedding = nn.Embedding(VOCABULARY // PROCESSES, WIDTH, _weight=mine(table))
    assert dist.group.WORLD is not None
    look_up_in_group(embedding, dist.group.WORLD)
    out = embedding(mine(tokens.abs() % VOCABULARY))
    out.backward(torch.arange(TOKENS)[:, None] + 100.0 * dist.get_rank() + torch.zeros_like(out))
    assert embedding.weight.grad is not None
    return out.detach(), embedding.weight.grad


def test_every_token_finds_its_row_wherever_it_is() -> None:
    _, table, tokens = inputs()
    table.requires_grad_()
    out = table[tokens.abs() % VOCABULARY]
    numbers = torch.arange(TOKENS).repeat(PROCESSES) + 100.0 * torch.arange(PROCESSES).repeat_interleave(TOKENS)
    out.backward(numbers[:, None] + torch.zeros_like(out))
    found, gradients = (torch.cat(parts) for parts in zip(*in_processes(PROCESSES, found_here), strict=True))
    assert torch.equal(found, out)
    assert table.grad is not None
    torch.testing.assert_close(gradients, table.grad)
