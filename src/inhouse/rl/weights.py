"""The weights that an engine samples by: the learner's own, or a copy that is filled anew after an update.

A copy is worth its memory where the learner's weights are wider than what is computed in (each token would pay for the
cast), lie in parts on several processes, are compiled for training, have adapters, which are merged into the copy, or
where a CPU generates faster from a layout of its own. It is filled in place, one module after another: no second copy,
no file, no new engine.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from inhouse.checkpoint.model_writer import stored
from inhouse.common.dtensor import full_tensor
from inhouse.engine.cpu.refill import packed_weights, refill
from inhouse.engine.engine import Engine
from inhouse.model.lora.adapters import adapters_of, merged_weight
from inhouse.model.transformer import Transformer
from inhouse.resilience.replica_check import check_replicas, tensor_digest


class SampledWeights:
    """What samples for `learner`: `model` goes into an engine, and `refresh` follows every update.

    `model` is the learner itself where that computes as generation wants it: in fp32, in one process, not
    `is_compiled`, without adapters. Else it is a copy, which all processes must make and refresh together. A layer that
    predicts further ahead takes no part.
    """

    def __init__(self, learner: Transformer, is_compiled: bool) -> None:
        self.learner = learner
        is_whole = not any(isinstance(weight, DTensor) for weight in learner.parameters())
        self._adapters = {adapter.name: adapter for adapter in adapters_of(learner)}
        is_plain = is_whole and not is_compiled and not self._adapters
        self.is_shared = is_plain and learner.dtype == torch.float32
        self.model = learner if self.is_shared else _empty_copy(learner)
        self._digests: dict[str, int] = {}
        if not self.is_shared:
            self._fill()
            self.model.pack()

    def refresh(self, engine: Engine) -> str:
        """The learner's weights have changed: an engine of `model` samples by them from now on. Their digest.

        No request may run. Raises `RuntimeError` where what the engine has are not the learner's weights, and
        `ValueError` where processes have different ones.
        """
        self._digests.clear()
        if self.is_shared:
            for name, weight in _taking_part(self.learner):
                self._read(name, weight)
        else:
            self._fill()
        total = _sum(self._digests.values())
        if not self.is_shared and _sum(self._own_digests()) != total:
            raise RuntimeError("the weights that sample are not the learner's, though they were just copied")
        device = next(self.learner.parameters()).device
        check_replicas([("the weights that sample", torch.tensor(total - 2**63, device=device))])
        engine.forget_prefixes()
        return f"{total:016x}"

    def _fill(self) -> None:
        self.model.normalizes_embedding = self.learner.normalizes_embedding
        self.model.head_in_fp32 = self.learner.head_in_fp32
        refill(self.model, self.learner, self._read)

    def _read(self, name: str, weight: Tensor) -> Tensor:
        adapter = self._adapters.get(name)
        whole = full_tensor(weight) if adapter is None else merged_weight(adapter)
        whole = stored(name, whole, self.model.dtype)
        self._digests[name] = int(tensor_digest(whole))
        return whole

    def _own_digests(self) -> Iterator[int]:
        """Of all that samples; the same sum, however it is laid out."""
        for name, weight in self.model.state_dict().items():
            if name in self._digests and weight.numel():
                yield int(tensor_digest(weight))
        yield from (int(tensor_digest(weight)) for weight in packed_weights(self.model))


def _empty_copy(learner: Transformer) -> Transformer:
    config, device = learner.config, next(learner.parameters()).device
    with torch.device("meta"):
        model = Transformer(config.model_copy(update={"num_nextn_predict_layers": 0}), learner.dtype)
    like = {name: stored(name, weight, learner.dtype) for name, weight in model.state_dict().items()}
    state = {name: torch.empty_like(weight, device=device) for name, weight in like.items()}
    model.load_state_dict(state, assign=True)
    if config.tie_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model.requires_grad_(False)


def _taking_part(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    return ((name, weight) for name, weight in model.state_dict().items() if not name.startswith("mtp."))


def _sum(digests: Iterable[int]) -> int:
    return sum(digests) % 2**64
