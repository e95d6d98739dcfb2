"""How much memory some work takes beside what was there before it: counted from shapes, on fake tensors too."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.optim.optimizer import Optimizers
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.parallel.layout import ParallelSettings, check_world
from inhouse.plan.fake_world import fake_processes, shared_mesh_parts
from inhouse.train.settings import TrainSettings


class Transients(TorchDispatchMode):
    """While it is entered, adds up the storages that operations make, until they are let go; `peak` in bytes.

    What a kernel takes for itself and gives back is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {_key(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and _key(x) not in before | self._known:
                self._count(x)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.bytes -= size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def optimizer_transients(config: ModelConfig, settings: TrainSettings, parallel: ParallelSettings, world: int) -> int:
    """The most bytes that an update of `config` takes in the first of `world` processes, beside weights, gradients and
    the optimizer's state. Raises `ValueError` where layout and processes do not fit together.
    """
    check_world(parallel, world)
    with fake_processes(world), shared_mesh_parts():
        mesh = Mesh(parallel)
        with torch.device("meta"):
            model = Transformer(config, torch.bfloat16 if settings.precision == "bf16" else torch.float32)
        parallelize(model, mesh)
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu")
            optimizers = Optimizers(model, settings, model.dtype)
            optimizers.state()  # which the first step would make
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            with Transients() as transients:
                optimizers.step(1.0)
    return transients.peak
