"""The user's own conversations that fine-tuning held out: how well their answers are foreseen, and what is answered."""

import json
import math
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F

from inhouse.common.progress import Progress
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import Completion, SamplingParams
from inhouse.evaluate.harness import Sample
from inhouse.evaluate.score import Score, ratio
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import encode_conversation, encode_prompt
from inhouse.posttrain.encode import HELDOUT
from inhouse.posttrain.messages import Message

KIND = "own"
_MOST = 200  # conversations


def own_conversations(folder: Path) -> list[list[Message]]:
    """What the model in `folder` was not taught of the user's conversations; none where nothing was held out."""
    path = folder / HELDOUT
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line)["messages"] for line in islice(lines, _MOST)]


@torch.no_grad()
def answers_bits_per_byte(
    model: Transformer, tokenizer: Tokenizer, conversations: list[list[Message]], template: str
) -> Score:
    """Bits for the assistant's parts given all before them, by their bytes; the standard error is over conversations.

    Longer ones are read up to the model's context.
    """
    bits, sizes = [], []
    device = model.embed_tokens.weight.device
    with Progress("own conversations", len(conversations), "conversations") as progress:
        for messages in conversations:
            encoded = encode_conversation(tokenizer, messages, template)
            ids = torch.tensor(encoded.ids[: model.config.max_position + 1], device=device)
            is_answer = torch.tensor(encoded.trained[1 : len(ids)], device=device)
            progress.update()
            if is_answer.any():
                logits = model.logits(model(ids[None, :-1]).hidden_BTD)[0]
                bits.append(
                    F.cross_entropy(logits[is_answer], ids[1:][is_answer], reduction="sum").item() / math.log(2)
                )
                sizes.append(len(tokenizer.decode_bytes(ids[1:][is_answer].tolist())))
    return ratio(bits, sizes, "the assistant's parts of own conversations that were held out")


def ask(
    engine: Engine, tokenizer: Tokenizer, conversations: list[list[Message]], max_tokens: int, template: str
) -> list[Sample]:
    """The model's last answer of each conversation, greedily, beside the one that stands there; nobody scores it."""
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0)
    asked = []
    for messages in conversations:
        last = max(place for place, message in enumerate(messages) if message["role"] == "assistant")
        prompt = encode_prompt(tokenizer, messages[:last], template=template) if last else []
        if prompt and len(prompt) + max_tokens <= engine.max_context:
            asked.append((engine.add(prompt, params), messages[last - 1], messages[last]))
    completions: dict[int, Completion] = {}
    while len(completions) < len(asked):
        completions |= {output.id: output.completion for output in engine.step() if output.completion is not None}
    return [
        Sample(
            KIND, _text(question), _text(answer), completions[each].text, None, None,
            completions[each].finish_reason == "stop",
        )
        for each, question, answer in asked
    ]  # fmt: skip


def _text(message: Message) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
