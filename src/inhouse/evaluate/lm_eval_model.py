"""`inhouse` as a model of lm-eval (EleutherAI's harness), for its tasks on our engine.

    python -m inhouse.evaluate.lm_eval_model run --model inhouse --model_args pretrained=FOLDER --tasks …

takes what `lm_eval` takes; from Python, importing this module makes `inhouse` known. It needs `pip install lm_eval`.
Continuations of one context are read in one pass (`engine.continuations`), whatever the order of the requests.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise ImportError("lm_eval is not installed here: pip install lm_eval") from error

from inhouse.common.model_paths import find_model
from inhouse.common.progress import Progress
from inhouse.engine.continuations import Branches, log_likelihoods
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.posttrain.opened_model import open_folder

_AT_ONCE = 128  # prompts that the engine knows of
_MOST_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the first that is given
_DRAWN_BY = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")

Ids = list[int]


@register_model("inhouse")
class InhouseLM(TemplateLM):
    """`pretrained`: a run, an exported or a Hugging Face folder. `prefix_token_id` stands before texts without a
    context; default: the end of a document, as in training."""

    def __init__(
        self, pretrained: str, dtype: str = "fp32", prefix_token_id: int | None = None, **ignored: Any
    ) -> None:
        super().__init__()
        self.opened = open_folder(
            find_model(Path(pretrained)), {"float32": "fp32", "bfloat16": "bf16"}.get(dtype, dtype)
        )
        self.opened.pack()
        self._prefix = prefix_token_id
        self._engine: Engine | None = None

    @property
    def max_length(self) -> int:
        return self.opened.model.config.max_position

    @property
    def eot_token_id(self) -> int:
        return self.opened.tokenizer.end_of_document

    @property
    def prefix_token_id(self) -> int:
        return self.eot_token_id if self._prefix is None else self._prefix

    @property
    def tokenizer_name(self) -> str:
        return "inhouse"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> Ids:
        return self.opened.tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str] | None, Ids, Ids]], **_: Any
    ) -> list[tuple[float, bool]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, (_pair, context, _continuation) in enumerate(requests):
            groups.setdefault(tuple(context), []).append(number)
        packed, members = [], []
        for ids, numbers in groups.items():
            continuations = [requests[number][2] for number in numbers]
            room = self.max_length + 1 - max(map(len, continuations))
            if room < 1:
                raise ValueError(f"a continuation is longer than the model's context of {self.max_length} tokens")
            packed.append(Branches(list(ids[-room:]), continuations))
            members.append(numbers)
        results: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        with Progress("log-likelihoods", len(requests), "requests") as progress:
            for scored_pass in log_likelihoods(self.opened.model, packed):
                for place, scored in scored_pass:
                    for number, one in zip(members[place], scored, strict=True):
                        results[number] = (one.log_likelihood, one.is_greedy)
                        if (pair := requests[number][0]) is not None:
                            self.cache_hook.add_partial("loglikelihood", pair, results[number])
                    progress.update(len(scored))
        return results

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """In windows as lm-eval cuts them, each token scored once."""
        sums = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(
                self.tok_encode(text), prefix_token=self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            parts = [(None, *make_disjoint_window(window)) for window in windows]
            sums.append(sum(value for value, _ in self._loglikelihood_tokens(parts)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), sums[-1])
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        if self._engine is None:
            self._engine = self.opened.engine()
        replies = []
        with Progress("answers", len(requests), "requests") as progress:
            for start in range(0, len(requests), _AT_ONCE):
                some = [request.args for request in requests[start : start + _AT_ONCE]]
                params = [self._params(given) for _, given in some]
                prompts = list(self._prompts([context for context, _ in some], params))
                for args, completion in zip(some, self._engine.generate(prompts, params), strict=True):
                    replies.append(completion.text)
                    self.cache_hook.add_partial("generate_until", args, completion.text)
                progress.update(len(some))
        return replies

    def _params(self, given: dict[str, Any]) -> SamplingParams:
        """As lm-eval's own models read them (`normalize_gen_kwargs`)."""
        until = given.get("until") or []
        most = next((given[name] for name in _MOST_TOKENS if given.get(name) is not None), 256)
        is_drawn = given.get("do_sample", float(given.get("temperature") or 0) > 0)
        how: dict[str, Any] = {"temperature": 1.0 if is_drawn else 0.0}
        if is_drawn:
            how |= {name: given[name] for name in _DRAWN_BY if given.get(name) is not None}
        return SamplingParams(
            max_tokens=min(int(most), self.max_length // 2),
            stop=tuple(filter(None, [until] if isinstance(until, str) else until)),
            **how,
        )

    def _prompts(self, contexts: Sequence[str], params: Sequence[SamplingParams]) -> Iterator[Ids]:
        for context, own in zip(contexts, params, strict=True):
            ids = self.tok_encode(context) or [self.prefix_token_id]
            yield ids[-(self.max_length - own.max_tokens) :]


def main() -> None:
    """lm-eval's own command line, to which this model is known beside its own."""
    import lm_eval.models  # noqa: F401  # which lm-eval leaves out where it knows a model already
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
