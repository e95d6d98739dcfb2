"""The one way to open a model folder to generate from it: weights, tokenizer and chat template."""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import ValidationError

from inhouse.checkpoint.model_folder import DTYPES, GENERATION_CONFIG, load_model, stored_dtype
from inhouse.common.devices import pick_device
from inhouse.common.files import read_json
from inhouse.common.model_paths import find_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.cache.kv_cache import KVCache
from inhouse.engine.drafts.draft_model import DraftModel
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.model.transformer import Transformer

AUTO = "auto"
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class Generation(NamedTuple):
    """What a folder says of generating: tokens that end an answer, and how to sample where nobody says."""

    end_ids: tuple[int, ...] = ()
    sampling: SamplingParams = SamplingParams(max_tokens=1)


class OpenedModel(NamedTuple):
    """A model with what belongs to it. A base model has no `chat_template`: it was never taught one."""

    model: Transformer
    tokenizer: Tokenizer
    chat_template: str | None
    generation: Generation

    def pack(self, settings: EngineSettings | None = None) -> None:
        """Lay the weights out as `engine` does; the layer that predicts further ahead is given up where nobody drafts
        by it. Raises `ValueError` where they cannot be had as `settings` say."""
        if settings is None or settings.speculation != "mtp":
            self.model.mtp = None
        self.model.pack(to_int8=settings is not None and settings.weights == "int8")

    def engine(self, settings: EngineSettings | None = None) -> Engine:
        """What generates from it, up to any of the tokens that end an answer. Raises `ValueError` as `Engine` does.

        The model's weights are laid out for generating: it cannot be saved after that.
        """
        self.pack(settings)
        drafter = None
        if settings is not None and settings.draft_model is not None:
            drafter = self._drafter(settings.draft_model, settings)
        return Engine(self.model, self.tokenizer, settings, self.generation.end_ids, drafter)

    def _drafter(self, path: Path, settings: EngineSettings) -> DraftModel:
        """The model that drafts, which holds as many tokens in a cache of its own."""
        other = open_folder(find_model(path), "bf16" if self.model.dtype == torch.bfloat16 else "fp32")
        config, own = other.model.config, self.model.config
        if other.tokenizer.vocabulary != self.tokenizer.vocabulary or config.vocab_size != own.vocab_size:
            raise ValueError(f"draft_model {path} has another tokenizer; take a smaller model of the same family")
        per_token = [KVCache.bytes_per_token(each, self.model.dtype) for each in (config, own)]
        cache_gib = settings.cache_gib * per_token[0] / per_token[1]
        plain = {"speculation": "none", "draft_model": None, "prompt_turn": None, "cache_gib": cache_gib}
        return DraftModel(other.engine(settings.model_copy(update=plain)))


def open_folder(folder: Path, dtype: str = "fp32") -> OpenedModel:
    """Open any folder in Hugging Face layout of an architecture that inhouse knows.

    Its weights are kept as it computes, in `dtype` (fp32, bf16, or auto: bf16 where the folder's weights are), on
    the GPU where there is one. Raises `ValueError` with a sentence for another dtype, and where the folder is no such
    model.
    """
    dtype = resolve_dtype(folder, dtype)
    tokenizer, device = Tokenizer.load(folder), pick_device("auto")
    model = load_model(folder, DTYPES[dtype], device, weights_dtype=DTYPES[dtype])
    return OpenedModel(model, tokenizer, read_chat_template(folder), read_generation(folder))


def read_generation(folder: Path) -> Generation:
    """`generation_config.json`, as transformers means it. Raises `ValueError` where it makes no sense."""
    path = folder / GENERATION_CONFIG
    said = read_json(path) if path.is_file() else {}
    if not isinstance(said, dict):
        raise ValueError(f"{path}: not a JSON object")
    ends = said.get("eos_token_id")
    ends = [ends] if isinstance(ends, int) else [] if ends is None else ends
    if not isinstance(ends, list) or not all(type(end) is int for end in ends):
        raise ValueError(f"{path}: eos_token_id is neither a number nor a list of them")
    sampling = {name: said[name] for name in _SAMPLING if said.get(name) is not None}
    if said.get("do_sample") is False:
        sampling = {"temperature": 0}
    try:
        return Generation(tuple(ends), SamplingParams(max_tokens=1, **sampling))
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"]))
        raise ValueError(f"{path}: {name} = {sampling.get(name)!r} is nothing to sample by") from error


def resolve_dtype(folder: Path, dtype: str) -> str:
    """fp32 or bf16 for what was asked for (auto: as `folder` stores its weights). Raises `ValueError`."""
    if dtype == AUTO:
        return stored_dtype(folder)
    if dtype not in DTYPES:
        raise ValueError(f"dtype = {dtype!r} is not known; it is one of {', '.join((AUTO, *DTYPES))}")
    return dtype


def read_chat_template(folder: Path) -> str | None:
    """The template that a model folder carries: a file, or a key of its tokenizer's config. None: it has none."""
    file, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
    if isinstance(template, list):  # several with names
        template = {each["name"]: each["template"] for each in template}.get("default")
    return template if isinstance(template, str) else None
