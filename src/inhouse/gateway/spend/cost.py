"""What a call may cost before it is made, and what an attempt has cost, with bounds where nobody has said it."""

from collections.abc import Sequence
from typing import NamedTuple

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import ChatMessage
from inhouse.api.wire.messages import MessagesRequest
from inhouse.api.wire.pieces import Usage
from inhouse.gateway.spend.price import Price
from inhouse.gateway.types import Attempt

# What bounds a prompt from above. A token of text is at least one byte of it; a template puts a few around each
# message; what providers say to a model about tools costs up to 700 tokens (Anthropic's table of 2026 has 530).
_AROUND_A_MESSAGE, _AROUND_A_TEXT, _ABOUT_TOOLS = 16, 2, 700
_AN_IMAGE = 12_000  # of the largest at the finest detail, by the most that a provider counts (2026)
_BYTES_A_TOKEN = 4  # of usual text: what is likely, never a bound
_UNKNOWN_OUTPUT = 131_072  # tokens of an answer where nobody has a limit: the longest that providers give (2026)
_MOST_OUTPUT = 10**7  # tokens of an answer, whatever a request says: money has to fit into the store
_NO_USE = 10**9  # tokens of one attempt, beyond which a provider's word is none

# refused before anything was computed: providers take nothing for it
_FREE = frozenset({"not expressible", "rate limit", "auth", "request", "context length"})


class Size(NamedTuple):
    """Tokens that a request may use: of its prompt, likely and at most, and of its answer at most."""

    prompt: int
    most_prompt: int
    most_completion: int


class Spent(NamedTuple):
    """What one attempt cost, in nano-units. `low` and `high` are `cost` where the provider said what was used."""

    cost: int
    low: int
    high: int
    price_version: str

    @property
    def is_estimate(self) -> bool:
        return self.low != self.high


def size_of_chat(request: ChatRequest, max_output: int | None, context: int | None) -> Size:
    """Of a request at a model with these limits in tokens, where they are known."""
    texts = [message.text for message in request.messages]
    names = [name for message in request.messages for name in _names(message)]
    tools = [tool.function.model_dump_json() for tool in request.tools]
    form = request.response_format.json_schema
    rest = tools + ([] if form is None else [form.model_dump_json()])
    prompt = _bytes(texts) + _bytes(rest) + _bytes(names)
    images = sum(len(message.images) for message in request.messages)
    around = _AROUND_A_MESSAGE * (len(texts) + len(names)) + _ABOUT_TOOLS * bool(tools) + _AN_IMAGE * images
    prompt += request.said.num_sealed if isinstance(request.said, MessagesRequest) else 0
    asked = request.max_completion_tokens or request.max_tokens
    return _size(prompt, around, asked, request.n, max_output, context)


def size_of_texts(texts: Sequence[str | list[int]], most_completion: int, context: int | None = None) -> Size:
    """Of prompts without a template, texts or token ids; `most_completion` for all of them together."""
    prompt = sum(_bytes([text]) if isinstance(text, str) else len(text) * _BYTES_A_TOKEN for text in texts)
    around = _AROUND_A_TEXT * len(texts)
    if not most_completion:
        return Size(-(-prompt // _BYTES_A_TOKEN), prompt + around, 0)
    return _size(prompt, around, most_completion, 1, None, context)


def most_cost(price: Price, size: Size) -> int:
    """Nano-units that one attempt can cost at most: what is reserved. Raises `ValueError` for a model that only embeds
    and is asked for an answer."""
    if size.most_completion and price.rates.output is None:
        raise ValueError("its price says nothing of answers, only of prompts: it embeds")
    return price.most(size.most_prompt, size.most_completion)


def likely_cost(price: Price, size: Size, completion: int) -> int:
    """Nano-units, expected of an answer of so many tokens."""
    return price.cost(Usage(size.prompt, 0, completion, 0))


def spent(price: Price, attempt: Attempt, size: Size, delivered: int = 0) -> Spent:
    """Of an attempt that is over. Where the provider has not said what it used, its cost lies between nothing and the
    most; `delivered` bytes of an answer came, and are the guess between."""
    usage = attempt.usage if attempt.usage is None or sum(attempt.usage) < _NO_USE else None
    is_said = usage is not None and not attempt.is_estimate
    if attempt.outcome in _FREE or (is_said and attempt.outcome != "answered" and not any(usage or ())):
        return Spent(0, 0, 0, price.version)  # not even the price of a request
    if usage is not None and is_said:
        cost = price.cost(usage)
        return Spent(cost, cost, cost, price.version)
    high = price.most(size.most_prompt, size.most_completion)
    if usage is not None:
        guess = price.cost(usage)
    else:
        has_begun = delivered > 0 or attempt.outcome in ("answered", "abandoned", "client gone", "")
        guess = likely_cost(price, size, -(-delivered // _BYTES_A_TOKEN)) if has_begun else 0
    return Spent(min(guess, high), 0, high, price.version)


def _names(message: ChatMessage) -> list[str]:
    """What a message carries beside its text, each as long as the client likes."""
    said = (message.name, message.refusal, message.tool_call_id, *(call.id for call in message.tool_calls))
    return [name for name in said if name]


def _size(prompt: int, around: int, asked: int | None, n: int, max_output: int | None, context: int | None) -> Size:
    known = [limit for limit in (asked, max_output, context) if limit is not None]
    most = min(*known, _MOST_OUTPUT) * n if known else _UNKNOWN_OUTPUT * n
    most_prompt = prompt + around
    return Size(
        -(-prompt // _BYTES_A_TOKEN) + around // 4, most_prompt if context is None else min(most_prompt, context), most
    )


def _bytes(texts: list[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")) for text in texts)
