"""Somebody's model to go on from: everything in its folder that training needs, looked at before anything runs."""

from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from inhouse.checkpoint.model_folder import GENERATION_CONFIG, check_weights, read_config
from inhouse.common.files import read_json
from inhouse.data.tokenizer import END_OF_TURN, START_OF_TURN, Tokenizer
from inhouse.model.config import ModelConfig
from inhouse.posttrain.chat_template import encode_conversation
from inhouse.posttrain.opened_model import read_chat_template
from inhouse.posttrain.settings import SamplingDefaults

_TRIED = [{"role": "user", "content": "What is 1 + 1?"}, {"role": "assistant", "content": "2"}]


class BaseFolder(NamedTuple):
    """A folder that can be gone on from. `sampling` is None where it does not say how it wants to be sampled."""

    config: ModelConfig
    tokenizer: Tokenizer
    sampling: SamplingDefaults | None


def open_base(folder: Path) -> BaseFolder:
    """Look at config.json, names and shapes of the weights, tokenizer, chat template and generation config.

    Raises `ValueError` with a sentence where the folder cannot be trained further: no model, an architecture or a
    tokenizer that inhouse does not know, no way to write a conversation, or a template whose answers are not to be told
    from what stands before them.
    """
    config, tokenizer, template = read_config(folder), Tokenizer.load(folder), read_chat_template(folder)
    check_weights(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"{folder}: its tokenizer has {tokenizer.vocab_size} tokens, but its model knows {config.vocab_size}"
        )
    _ = tokenizer.end_of_document, tokenizer.end_of_turn
    if template is not None:
        try:
            encode_conversation(tokenizer, _TRIED, template)
        except ValueError as error:
            raise ValueError(f"{folder}: its chat template cannot be trained with: {error}") from error
    elif missing := [token for token in (START_OF_TURN, END_OF_TURN) if token not in tokenizer.special]:
        raise ValueError(
            f"{folder}: has no chat template, and its tokenizer no {' and no '.join(missing)} for the one of inhouse; "
            "put a chat_template.jinja beside it"
        )
    return BaseFolder(config, tokenizer, _sampling(folder) if template is not None else None)


def _sampling(folder: Path) -> SamplingDefaults | None:
    """As transformers reads the file; None where it does not say, or what we cannot sample by."""
    path = folder / GENERATION_CONFIG
    said = read_json(path) if path.is_file() else {}
    if not isinstance(said, dict) or "do_sample" not in said:
        return None
    if not said["do_sample"]:
        return SamplingDefaults(temperature=0.0)
    try:
        return SamplingDefaults(temperature=said.get("temperature", 1.0), top_p=said.get("top_p", 1.0))
    except ValidationError:
        return None
