"""What routing reads of a request: what it is about, how long it is, which conversation it belongs to."""

from hashlib import sha256

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.types import Caller

AnyRequest = ChatRequest | CompletionRequest | EmbeddingRequest
_BYTES_A_TOKEN = 4  # of English text, about; code and other languages have fewer


def text_of(request: AnyRequest) -> str:
    """What tells the task: the first thing that the user says, so that a whole conversation has one task."""
    if isinstance(request, ChatRequest):
        return next((message.content or "" for message in request.messages if message.role == "user"), "")
    return "\n".join(_texts(request))


def prompt_tokens(request: AnyRequest) -> int:
    """About how many tokens its prompt has."""
    if isinstance(request, ChatRequest):
        written = sum(len(message.text.encode("utf-8", "surrogatepass")) for message in request.messages)
        written += sum(len(tool.model_dump_json()) for tool in request.tools)
        return written // _BYTES_A_TOKEN + 4 * len(request.messages)
    prompts = request.input if isinstance(request, EmbeddingRequest) else request.prompt
    return sum(
        len(prompt.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN + 1 if isinstance(prompt, str) else len(prompt)
        for prompt in prompts
    )


def longest_answer(request: AnyRequest) -> int | None:
    """The most tokens that its answer may have, where it says so; an embedding has none."""
    if isinstance(request, EmbeddingRequest):
        return 0
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        return request.max_completion_tokens
    return request.max_tokens


def conversation_of(request: AnyRequest, caller: Caller, header: str | None, user: str | None) -> str:
    """A name for the request's conversation: of the header `x-conversation-id`, else of what it began with.

    `user` is the field of that name, which tells one caller's users apart. Nobody can name another key's conversation.
    """
    if header:
        parts = [caller.key_id, header]
    elif isinstance(request, ChatRequest):
        said = [message.role for message in request.messages]
        begin = said.index("user") + 1 if "user" in said else 1
        parts = [caller.key_id, user or "", *(f"{each.role}:{each.text}" for each in request.messages[:begin])]
    else:
        parts = [caller.key_id, user or "", *_texts(request)]
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _texts(request: CompletionRequest | EmbeddingRequest) -> list[str]:
    prompts = request.input if isinstance(request, EmbeddingRequest) else request.prompt
    return [prompt if isinstance(prompt, str) else str(prompt) for prompt in prompts]
