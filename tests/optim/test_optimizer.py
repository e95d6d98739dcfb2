"""Which parameter goes where, and a state that survives a round trip."""

import torch
from tests.tiny_models import tiny_model

from inhouse.optim.optimizer import Optimizers
from inhouse.train.settings import TrainSettings


def test_every_parameter_is_in_one_group_of_the_right_kind() -> None:
    model = tiny_model("glm4_moe")
    optimizers = Optimizers(model, TrainSettings())
    muon = {id(p) for group in optimizers.muon.param_groups for p in group["params"]}
    adamw = [id(p) for group in optimizers.adamw.param_groups for p in group["params"]]
    assert len(muon) + len(adamw) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        is_matrix = name.endswith("_proj.weight") or ".experts." in name
        assert (id(parameter) in muon) == is_matrix, name


def test_state_makes_a_fresh_optimizer_go_on_alike() -> None:
    def steps(model: torch.nn.Module, optimizers: Optimizers, seeds: range) -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizers.step(0.5)

    model = tiny_model("glm4_moe")
    optimizers = Optimizers(model, TrainSettings())
    steps(model, optimizers, range(3))
    twin = tiny_model("glm4_moe", seed=5)
    twin.load_state_dict(model.state_dict())
    fresh = Optimizers(twin, TrainSettings())
    state = fresh.state()
    for name, tensor in optimizers.state().items():
        state[name].copy_(tensor)
    fresh.count_from(state["muon.step"])
    steps(model, optimizers, range(3, 6))
    steps(twin, fresh, range(3, 6))
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
