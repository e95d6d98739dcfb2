"""/tokenize, /detokenize and /tokenizer_info: enough of a tokenizer for clients that have none (lm_eval's remote one).

Here and in the prompts of /v1/completions the text of a special token stands for that token, as it does in
transformers: whoever writes a raw prompt writes all of it. Messages of a chat never do.
"""

from typing import Any

from inhouse.api.wire.tokens import DetokenizeRequest, TokenizeRequest
from inhouse.serve.served import Served


def tokenize(served: Served, raw: bytes) -> dict[str, Any]:
    body = TokenizeRequest.parse(raw)
    if body.model is not None:
        served.check_model(body.model)
    if body.prompt is None:
        ids = served.encode_messages(body.messages)
    else:
        ids = served.tokenizer.encode_with_special(body.prompt)
    return {"tokens": ids, "count": len(ids), "max_model_len": served.context}


def detokenize(served: Served, raw: bytes) -> dict[str, Any]:
    body = DetokenizeRequest.parse(raw)
    if body.model is not None:
        served.check_model(body.model)
    served.check_prompt(body.tokens, "tokens", may_fill=True)
    return {"prompt": served.tokenizer.decode(body.tokens)}


def tokenizer_info(served: Served) -> dict[str, Any]:
    """What tokenizer_config.json says too: no beginning of text; `eos_token` ends a turn, in base models a text."""
    tokenizer = served.tokenizer
    end = tokenizer.end_of_document if served.chat_template is None else tokenizer.end_of_turn
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": tokenizer.decode([end]),
        "vocab_size": tokenizer.vocab_size,
        "model_max_length": served.context,
        "special_tokens": tokenizer.special,
        "chat_template": served.chat_template,
    }
