"""The balance loss of sequences: the paper's formula, in the gradients of a step and not in its loss."""

import pytest
import torch
from tests.processes import in_processes
from tests.tiny_models import batch_of, tiny_config, tiny_model
from torch import Tensor

from inhouse.model.moe import Router, Routing
from inhouse.parallel.activation_checkpoint import recompute_blocks
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import ParallelSettings
from inhouse.train.sequence_balance import balance_loss
from inhouse.train.settings import TrainSettings
from inhouse.train.step import TrainStep

SEQUENCES, LENGTH, WEIGHT = 3, 10, 0.5


def routing() -> Routing:
    """Of tokens whose choice the bias moves, too."""
    torch.manual_seed(0)
    config = tiny_config("glm4_moe")
    router = Router(config)
    torch.nn.init.normal_(router.weight)
    router.e_score_correction_bias.normal_()
    made: Routing = router(torch.randn(SEQUENCES * LENGTH, config.hidden_size))
    return made._replace(scores_NE=made.scores_NE.detach().requires_grad_())


def is_text() -> Tensor:
    """The last sequence is filler, and so is the end of the one before it."""
    return torch.arange(SEQUENCES * LENGTH) < (SEQUENCES - 2) * LENGTH + 3


def by_the_paper(made: Routing, is_text: Tensor) -> Tensor:
    """Equations 17 to 20, one sum after the other; without the weight."""
    num_experts, top_k = made.scores_NE.shape[1], made.experts_NK.shape[1]
    total = torch.zeros(())
    for sequence, counts in zip(made.scores_NE.split(LENGTH), is_text.split(LENGTH), strict=True):
        scores = sequence[counts]
        for i in range(num_experts if len(scores) else 0):
            chosen = sum(int(i in token.topk(top_k).indices) for token in scores)
            p = sum((token[i] / token.sum() for token in scores), torch.zeros(())) / len(scores)
            total = total + num_experts / (top_k * len(scores)) * chosen * p
    return total


@pytest.mark.parametrize("text", [None, is_text()])
def test_it_is_the_formula(text: Tensor | None) -> None:
    made = routing()
    everything = torch.ones(SEQUENCES * LENGTH, dtype=torch.bool)
    found = balance_loss(made, LENGTH, is_text_N=text)
    wanted = by_the_paper(made, everything if text is None else text)
    torch.testing.assert_close(found, wanted)
    gradients = [torch.autograd.grad(loss, made.scores_NE)[0] for loss in (found, wanted)]
    torch.testing.assert_close(*gradients)


def part(rank: int) -> list[tuple[Tensor, Tensor]]:
    """The loss and its gradient here, where two processes share each sequence, of all tokens and of text alone."""
    torch.set_num_threads(1)
    made, mesh = routing(), Mesh(ParallelSettings(context=2))
    tokens = torch.arange(SEQUENCES * LENGTH).view(SEQUENCES, LENGTH)[:, mesh.cp_columns(LENGTH)].flatten()
    here = Routing(*(x[tokens] for x in made[:3]), made.load_E)
    losses = (balance_loss(here, LENGTH, mesh, text) for text in (None, is_text()[tokens]))
    return [(loss.detach(), torch.autograd.grad(loss, made.scores_NE, retain_graph=True)[0]) for loss in losses]


def test_processes_that_share_sequences_have_parts_of_it() -> None:
    made = routing()
    for text, parts in zip((None, is_text()), zip(*in_processes(2, part, 0), strict=True), strict=True):
        whole = balance_loss(made, LENGTH, is_text_N=text)
        losses, gradients = zip(*parts, strict=True)
        torch.testing.assert_close(sum(losses), whole.detach())
        torch.testing.assert_close(sum(gradients), torch.autograd.grad(whole, made.scores_NE)[0])


def step_with(weight: float, recompute: bool = False, **changes: object) -> tuple[float, dict[str, Tensor], TrainStep]:
    settings = TrainSettings(
        batch_tokens=128, precision="fp32", compile=False, device="cpu", sequence_balance=weight, **changes
    )
    model = tiny_model("glm4_moe")
    if recompute:
        recompute_blocks(model)
    step = TrainStep(model, settings)
    loss = step.gradients(batch_of(0)).loss
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, step


@pytest.mark.parametrize(("recompute", "micro_batch_tokens"), [(False, None), (False, 32), (True, 48)])
def test_a_step_has_its_gradient_and_not_its_value(recompute: bool, micro_batch_tokens: int | None) -> None:
    plain_loss, plain, step = step_with(0.0, micro_batch_tokens=micro_batch_tokens)
    loss, found, _ = step_with(WEIGHT, recompute, micro_batch_tokens=micro_batch_tokens)
    assert loss == plain_loss
    batch = batch_of(0)
    routings = step.model(batch.tokens_BT).routing
    auxiliary = WEIGHT / 8 * sum(balance_loss(made, 16) for made in routings)  # a step of 8 sequences of 16 tokens
    named = dict(step.model.named_parameters())
    added = torch.autograd.grad(auxiliary, list(named.values()), allow_unused=True)
    for name, more in zip(named, added, strict=True):
        wanted = plain[name] if more is None else plain[name] + more
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6)
        assert more is None or not name.endswith("mlp.gate.weight") or more.norm() > 0
