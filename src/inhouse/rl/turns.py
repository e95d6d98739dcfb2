"""Answers under way: turns that the model samples, and between them what tools give back.

What tools give back stands in the answer as the chat template writes it, behind exactly the tokens that were sampled:
those are never encoded anew.
"""

from collections.abc import Callable, Sequence

import numpy as np

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import Completion, Failure, Kept, SamplingParams
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.messages import Message
from inhouse.rl.rollouts import Rollout

UseTools = Callable[[str], Sequence[Message]]  # what comes back for what a reply calls; nothing: it is the answer
MOST_TURNS = 8


class Answer:
    """One answer to `messages`, at first nothing but their prompt.

    `params` are of its first turn, `seed_of` gives the seed of each (from 0), `use_tools` carries out what its replies
    call. At most `MOST_TURNS` are sampled, of `params.max_tokens` all together.
    """

    def __init__(
        self,
        prompt: list[int],
        messages: list[Message],
        params: SamplingParams,
        seed_of: Callable[[int], int],
        use_tools: UseTools = lambda reply: (),
    ) -> None:
        self.prompt, self.messages, self.failure = prompt, messages, ""
        self._params, self._seed_of, self._use_tools = params, seed_of, use_tools
        self._turns: list[Completion] = []
        self._results: list[list[int]] = []  # behind each turn but the last, tokens that were not sampled

    @property
    def ids(self) -> list[int]:
        """The prompt and all that stands behind it."""
        return self.prompt + self._token_ids

    @property
    def params(self) -> SamplingParams:
        """Of the next turn."""
        return self._params.model_copy(update={"seed": self._seed_of(len(self._turns)), "max_tokens": self._num_left})

    @property
    def _token_ids(self) -> list[int]:
        parts = []
        for number, turn in enumerate(self._turns):
            parts += turn.token_ids
            if number < len(self._results):
                parts += self._results[number]
        return parts

    @property
    def _num_left(self) -> int:
        return self._params.max_tokens - sum(len(turn.token_ids) for turn in self._turns)

    def take(self, completion: Completion) -> None:
        """The next turn."""
        self._turns.append(completion)

    def goes_on(self, tokenizer: Tokenizer, template: str, max_context: int) -> bool:
        """Whether another turn follows: then what the tools gave stands behind the last one.

        Raises `ValueError` where the template cannot write what tools give behind what was said.
        """
        if self.failure or self._turns[-1].finish_reason != "stop":
            return False
        if len(self._turns) >= MOST_TURNS or self._num_left < 1:
            return False
        turn = self._turns[-1]
        results = self._use_tools(turn.text)
        if not results:
            return False
        said = [*self.messages, {"role": "assistant", "content": turn.text}, *results]
        behind = _behind_the_turn(tokenizer, template, self.messages, said, turn.token_ids[-1])
        if not behind or len(self.ids) + len(behind) >= max_context:
            return False
        self.messages = said
        self._results.append(behind)
        return True

    def rollout(self, weights_step: int) -> Rollout:
        """All of it, by the weights of so many steps."""
        turns = self._turns
        token_ids = self._token_ids
        is_sampled = np.zeros(len(token_ids), dtype=bool)
        logprobs = np.zeros(len(token_ids), dtype=np.float32)
        end = 0
        for turn, result in zip(turns, [*self._results, []], strict=True):
            start, end = end, end + len(turn.token_ids)
            is_sampled[start:end], logprobs[start:end] = True, turn.sampling_logprobs
            end += len(result)
        return Rollout(
            prompt_ids=self.prompt,
            token_ids=token_ids,
            is_sampled=is_sampled,
            sampler_logprobs=logprobs,
            kept=_joined([turn.kept for turn in turns if turn.kept is not None]),
            experts=_chosen([turn.experts for turn in turns if turn.experts is not None]),
            finish_reason=turns[-1].finish_reason,
            text=turns[-1].text,
            weights_step=weights_step,
            earlier="\n".join(turn.text for turn in turns[:-1]),
        )


def answer_all(
    engine: Engine, answers: Sequence[Answer], template: str, on_pass: Callable[[], None] = lambda: None
) -> None:
    """Sample until every answer has ended, or failed (`Answer.failure`); `on_pass` hears of each pass of the model.

    A round's turns are sampled together, then all its tools are used: what is batched with what depends on nothing but
    the answers. Raises `ValueError` as `Answer.goes_on` does.
    """
    active = list(answers)
    while active:
        _next_turns(engine, active, on_pass)
        active = [each for each in active if each.goes_on(engine.tokenizer, template, engine.max_context)]


def _next_turns(engine: Engine, answers: Sequence[Answer], on_pass: Callable[[], None]) -> None:
    waiting: dict[int, Answer] = {}
    try:
        for each in answers:
            waiting[engine.add(each.ids, each.params)] = each
        while waiting:
            on_pass()
            for output in engine.step():
                if isinstance(output, Failure):
                    waiting.pop(output.id).failure = output.reason
                elif output.completion is not None:
                    waiting.pop(output.id).take(output.completion)
    finally:
        for identity in waiting:
            engine.abort(identity)


def _behind_the_turn(
    tokenizer: Tokenizer, template: str, before: list[Message], after: list[Message], end_id: int
) -> list[int]:
    """What the template writes behind the assistant's turn, up to its next one.

    Nothing where `end_id`, the turn's last token, is not what ends turns: then the model has ended the conversation.
    """
    head, whole = (encode_prompt(tokenizer, messages, template) for messages in (before, after))
    if whole[: len(head)] != head:
        raise ValueError(
            "the chat template writes a conversation otherwise once a tool has answered; sampling with tools needs one "
            "that adds to what stands there"
        )
    return whole[whole.index(end_id, len(head)) + 1 :] if end_id in whole[len(head) :] else []


def _joined(parts: Sequence[Kept]) -> Kept | None:
    if not parts:
        return None
    starts = np.cumsum([0, *(len(part.ids) for part in parts)])
    ends = [part.ends + start for part, start in zip(parts, starts, strict=False)]
    return Kept(np.concatenate([part.ids for part in parts]), np.concatenate(ends))


def _chosen(parts: Sequence[np.ndarray]) -> np.ndarray | None:
    """Of every position as the turn that came to it chose: each part is of all positions before its turn's end."""
    if not parts:
        return None
    starts = [0, *(len(part) for part in parts)]
    return np.concatenate([part[start:] for part, start in zip(parts, starts, strict=False)])
