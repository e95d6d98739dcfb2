"""How a stage trains the model in a folder: all of its weights, or adapters beside them."""

from pathlib import Path
from typing import Any

import torch

from inhouse.checkpoint.adapter_folder import save_adapters
from inhouse.checkpoint.model_folder import DTYPES, fill_from, save_model, stored_dtype
from inhouse.common.files import digest
from inhouse.common.model_paths import model_files
from inhouse.model.lora.adapters import add_adapters, initialize_adapters, merge_adapters
from inhouse.model.lora.settings import LoraSettings
from inhouse.model.transformer import Transformer

ADAPTER = "adapter"  # a folder in the stage's, in PEFT's layout


class Adaptation:
    """Of the model in the folder `base`; without `lora` all weights are trained, in fp32.

    With it the base's weights stay, as their folder has them, and `seed` begins the adapters.
    """

    def __init__(self, lora: LoraSettings | None, base: Path, seed: int) -> None:
        self.lora, self.base, self.seed = lora, base, seed
        self.dtype = torch.float32 if lora is None else DTYPES[stored_dtype(base)]

    def prepare(self, model: Transformer, table: str, pipeline: int = 1) -> None:
        """Before `model` is spread over processes. Raises `ValueError` where it cannot have such adapters."""
        if self.lora is not None:
            self.lora.check(table, model.config, pipeline)
            add_adapters(model, self.lora, self.dtype)

    def begin(self, model: Transformer) -> None:
        """The base's weights, and fresh adapters where there are any."""
        fill_from(model, self.base)
        initialize_adapters(model, self.seed)

    def identity(self) -> dict[str, Any]:
        """What a run depends on beside its stage's own: of a base that stays, a checkpoint has nothing."""
        if self.lora is None:
            return {}
        weights = [digest(path) for path in model_files(self.base)]
        return {"lora": self.lora.model_dump(mode="json"), "base": weights}

    def save(self, model: Transformer, output: Path) -> None:
        """Write the model folder, after the adapters by themselves, which are merged into `model`.

        All processes that share the model must call this together.
        """
        if self.lora is not None:
            save_adapters(model, output / ADAPTER, self.base)
            merge_adapters(model)
        save_model(model, output, self.dtype)
