"""The model that a server serves, as its endpoints see it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from inhouse.api.errors import ApiError
from inhouse.api.settings import ServeSettings
from inhouse.api.wire.protocol import ChatMessage, Function, numbers_of
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.grammar import Grammars
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.messages import check_messages, with_tools
from inhouse.serve.admission import Admission


class Generating(Protocol):
    """What is known of whatever generates: our own engine, or another program."""

    @property
    def settings(self) -> EngineSettings: ...
    @property
    def grammars(self) -> Grammars: ...
    @property
    def max_context(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...


class Served(NamedTuple):
    """One model with everything that answers for it."""

    name: str
    engine: Generating
    tokenizer: Tokenizer
    chat_template: str | None
    worker: Admission
    settings: ServeSettings
    longest_token: int  # bytes
    sampling: SamplingParams  # where a request does not say

    @property
    def context(self) -> int:
        """Longest prompt and answer together, in tokens."""
        return self.engine.max_context

    def check_model(self, name: str) -> None:
        if name != self.name:
            raise ApiError(
                404, f"The model '{name}' does not exist; this server has '{self.name}'.",
                param="model", code="model_not_found",
            )  # fmt: skip

    def check_prompt(self, prompt: Sequence[int], param: str, *, may_fill: bool = False) -> None:
        """Refuse ids that are no tokens, and prompts that leave no room for an answer (none needed: `may_fill`)."""
        most = self.context if may_fill else self.context - 1
        if len(prompt) > most:
            raise ApiError(
                400,
                f"This model's maximum context length is {self.context} tokens; the prompt has {len(prompt)}"
                f"{'' if may_fill else ' and the answer needs at least one'}. Shorten the prompt.",
                param=param,
                code="context_length_exceeded",
            )
        vocab_size = self.engine.vocab_size
        if not all(0 <= token < vocab_size for token in prompt):
            raise ApiError(
                400, f"A token id of the prompt is not in 0..{vocab_size - 1}.",
                param=param, code="invalid_value",
            )  # fmt: skip

    def check_text(self, text: str, param: str) -> None:
        """Refuse what is too long however it is cut into tokens, before the work of cutting it."""
        if len(text) > self.context * self.longest_token:
            raise ApiError(
                400,
                f"This model's maximum context length is {self.context} tokens; a text of {len(text)} characters has "
                "more. Shorten the prompt.",
                param=param,
                code="context_length_exceeded",
            )

    def encode_messages(
        self,
        messages: Sequence[ChatMessage],
        functions: Sequence[Function] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The prompt of a chat; message content never becomes special tokens. Slow on long texts: not for the loop."""
        if self.chat_template is None:
            raise ApiError(
                400, f"The model '{self.name}' has no chat template (a base model); use /v1/completions.",
                param="messages", code="no_chat_template",
            )  # fmt: skip
        self.check_text("".join(message.text for message in messages), "messages")
        self.check_text("".join(function.model_dump_json() for function in functions), "tools")
        said = [message.to_template() for message in messages]
        tools = [function.model_dump(exclude_unset=True, exclude={"strict"}) for function in functions]
        param = "tools"
        try:
            with_tools([], tools)
            param = "messages"
            check_messages(said, is_training=False, numbers=numbers_of(messages))
            rendered = with_tools(_with_one_system(said), tools)
            return encode_prompt(self.tokenizer, rendered, self.chat_template, variables)
        except ValueError as error:
            raise ApiError(400, f"{error}.", param=param, code="invalid_value") from error


def _with_one_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What clients say in several system messages at the beginning, templates know in one."""
    count = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if count < 2:
        return messages
    return [{"role": "system", "content": "\n\n".join(each["content"] for each in messages[:count])}, *messages[count:]]
