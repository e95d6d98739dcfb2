"""What a caller asks of the engine and what it gets back."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import AfterValidator, Field, PositiveInt

from inhouse.common.settings import Settings

FinishReason = Literal["stop", "length", "abort"]
MIN_TEMPERATURE = 1e-4  # logits over less leave fp32's range, and the likeliest token alone well before


def _greedy_if_tiny(temperature: float) -> float:
    return temperature if temperature >= MIN_TEMPERATURE else 0.0


class ThinkingLimit(NamedTuple):
    """At most `budget` tokens of thinking at the beginning of an answer, then `end_ids` come, which close it.

    With `is_open` the prompt has opened it; else only an answer that begins with `opening` thinks.
    """

    budget: int
    end_ids: tuple[int, ...]
    is_open: bool
    opening: str
    closing: str


class SamplingParams(Settings):
    """How to continue one prompt. Temperature 0 is greedy; top_k 0 and top_p 1 leave every token possible.

    Penalties and biases change the logits before temperature, top_k, top_p and min_p; log-probabilities are reported
    of the unchanged ones. The same `seed` gives the same tokens whatever the request is batched with. Raises
    `pydantic.ValidationError`.
    """

    max_tokens: PositiveInt
    temperature: Annotated[float, AfterValidator(_greedy_if_tiny)] = Field(
        default=1.0, ge=0.0, le=100.0, allow_inf_nan=False, description=f"below {MIN_TEMPERATURE:g} as 0"
    )
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0, le=2**31 - 1)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0, description="least part of the likeliest token's probability")
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0, description="off the logit of what was generated")
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0, description="the same, for each time")
    repetition_penalty: float = Field(
        default=1.0, ge=0.1, le=10.0, description="divides the logits of what is in prompt or answer, where positive"
    )
    logit_bias: dict[int, float] = Field(default={}, description="added to the logits of tokens")
    min_tokens: int = Field(default=0, ge=0, description="before them no token ends the answer")
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int = Field(default=0, ge=0, description="how many of the likeliest tokens to report at every position")
    drawn_logprobs: bool = Field(default=True, description="report that of the drawn token; False: nobody reads it")
    kept: bool = Field(default=False, description="report what top_k, top_p and min_p left at every position")
    prompt_logprobs: bool = False
    priority: int = Field(
        default=0, ge=0, le=100, description="who waits is admitted later than those with a lower one"
    )
    experts: bool = Field(default=False, description="report the experts chosen for the prompt and the completion")
    embed: bool = Field(default=False, description="end with the prompt: report the mean of its last hidden states")
    ignore_eos: bool = False
    grammar: str | None = Field(default=None, description="what the answer must be, as `engine.grammar` writes it")
    printed_ids: tuple[int, ...] = Field(default=(), description="special tokens that are part of the text")
    thinking: ThinkingLimit | None = Field(default=None, description="how long the answer may think")

    @property
    def changes_logits(self) -> bool:
        return bool(
            self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1.0
            or self.logit_bias or self.min_tokens
        )  # fmt: skip


class Kept(NamedTuple):
    """The tokens that were still possible at each position of an answer, from which one was drawn, one position after
    another. A learner that divides by the sampler's probabilities takes its own over the same sets.

    `ids` int32: ascending at each position. `ends` (positions) int64: where in `ids` those of each position end; they
    begin where the ones before them end.
    """

    ids: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, sets: Sequence[np.ndarray]) -> Self:
        """Of the ids of each position."""
        ids = np.concatenate([np.empty(0, dtype=np.int32), *sets])
        return cls(ids, np.cumsum([len(each) for each in sets], dtype=np.int64))


class TokenLogprobs(NamedTuple):
    """Log-probabilities of one token: under the model (`logprob`), under the distribution that it was drawn from after
    temperature, top-k and top-p (`sampling_logprob`; 0 for greedy tokens and in prompts), and the likeliest tokens at
    its position with theirs under the model, best first. `kept`: what it was drawn from, where that was asked for."""

    logprob: float
    sampling_logprob: float
    top: list[tuple[int, float]]
    kept: np.ndarray | None = None


class Completion(NamedTuple):
    """A finished request; `logprobs`, `sampling_logprobs` and `top_logprobs` run parallel to `token_ids`.

    `token_ids` end with the token that ended them; `text` contains neither that nor a stop string.
    `prompt_logprobs` has no entry for the first token, which nothing predicts. `experts` (positions, MoE layers, K)
    int16: what was chosen at every position of prompt + completion but the last, which no forward pass has seen.
    `kept`: what each token was drawn from, where that was asked for.
    `embedding` (D) fp32: where it was asked for, the mean over the prompt of what enters the head.
    """

    id: int
    token_ids: list[int]
    text: str
    finish_reason: FinishReason
    logprobs: list[float]
    sampling_logprobs: list[float]
    top_logprobs: list[list[tuple[int, float]]]
    prompt_logprobs: list[TokenLogprobs] | None
    kept: Kept | None
    experts: np.ndarray | None
    embedding: np.ndarray | None


class StepOutput(NamedTuple):
    """One new token of one request, and the text that has become certain with it.

    `text_end` counts the characters of the request up to the end of this token, those held back included and a half one
    not. `num_cached`, the tokens of the prompt that were in the prefix cache, and, where they were asked for,
    `prompt_logprobs` come with the first token, `completion` and the stop string that it ended at with the last.
    """

    id: int
    token: int
    text: str
    text_end: int
    logprobs: TokenLogprobs
    num_cached: int
    prompt_logprobs: list[TokenLogprobs] | None
    finish_reason: FinishReason | None
    stopped_by: str | None
    completion: Completion | None


class Failure(NamedTuple):
    """A request that ended because it cannot be computed, in words for whoever asked; `is_asked_for` where that is so
    by what was asked."""

    id: int
    reason: str
    is_asked_for: bool = False


def checked(output: StepOutput | Failure) -> StepOutput:
    """The output, unless it is a failure: `RuntimeError`."""
    if isinstance(output, Failure):
        raise RuntimeError(f"a request has failed: {output.reason}")
    return output


def check_request(prompt: list[int], params: SamplingParams, max_context: int, vocab_size: int) -> None:
    """Raise `ValueError` for a prompt that the model cannot take, or parameters that name tokens it does not have."""
    if not prompt:
        raise ValueError("the prompt is empty; begin with at least the end-of-document token")
    if len(prompt) >= max_context + params.embed:
        left = "" if params.embed else ", of which one must be left"
        raise ValueError(f"the prompt has {len(prompt)} tokens and the context {max_context}{left}")
    if not 0 <= min(prompt) <= max(prompt) < vocab_size:
        raise ValueError(f"the prompt has token ids outside 0..{vocab_size - 1}")
    named = [*params.logit_bias, *params.stop_token_ids, *(params.thinking.end_ids if params.thinking else ())]
    if named and not 0 <= min(named) <= max(named) < vocab_size:
        raise ValueError(f"logit_bias, stop_token_ids or thinking name tokens outside 0..{vocab_size - 1}")
