"""POST /v1/completions: raw prompts (text or token ids, one or a batch), echo, log-probabilities."""

from typing import Any

from inhouse.api.wire.completions import CompletionRequest, Prompt
from inhouse.serve.choices import Choice, Delta, Entry
from inhouse.serve.generation import OpenAIFace, jobs_of
from inhouse.serve.served import Served
from inhouse.serve.structured import compile_grammar, content_of

DEFAULT_MAX_TOKENS = 16  # the API's


class Completions(OpenAIFace[CompletionRequest]):
    """One such request; its raw body is checked as it is made."""

    body_type, kinds, id_prefix = CompletionRequest, ("text_completion", "text_completion"), "cmpl"

    def __init__(self, served: Served, raw: bytes) -> None:
        super().__init__(served, raw)
        body = self.body
        self.check_count(len(body.prompt))
        self.prompts = [self._encode(prompt) for prompt in body.prompt]
        self.jobs = jobs_of(
            self,
            "prompt",
            max_tokens=DEFAULT_MAX_TOKENS if body.max_tokens is None else max(body.max_tokens, 1),
            num_top=body.logprobs,
            prompt_logprobs=body.echo and body.logprobs is not None,
            grammar=compile_grammar(served, content_of(body)),
        )
        self.choices = [
            Choice(
                served.tokenizer,
                num_top=body.logprobs,
                echo=prompt if body.echo else None,
                echo_only=body.max_tokens == 0,
                keep_ended=True,
            )
            for prompt, _ in self.jobs
        ]

    def _encode(self, prompt: Prompt) -> list[int]:
        """An empty text is the beginning of a document, as in the API."""
        if not isinstance(prompt, str):
            return prompt
        self.served.check_text(prompt, "prompt")
        tokenizer = self.served.tokenizer
        return tokenizer.encode_with_special(prompt) or [tokenizer.end_of_document]

    def choice(self, job: int, delta: Delta) -> dict[str, Any]:
        logprobs = None if self.body.logprobs is None else _logprobs(delta.entries)
        return {"index": job, "text": delta.text, "logprobs": logprobs, "finish_reason": delta.finish_reason}


def _logprobs(entries: list[Entry]) -> dict[str, Any]:
    """The API's four parallel lists. `top_logprobs` holds the chosen token too; the prompt's first has nothing."""
    top = []
    for entry in entries:
        found: dict[str, float] = {}
        for candidate in [*entry.top, entry.chosen] if entry.top else []:
            found[candidate.text] = max(candidate.logprob, found.get(candidate.text, candidate.logprob))
        top.append(found)
    return {
        "tokens": [entry.chosen.text for entry in entries],
        "token_logprobs": [entry.chosen.logprob for entry in entries],
        "top_logprobs": top,
        "text_offset": [entry.start for entry in entries],
    }
