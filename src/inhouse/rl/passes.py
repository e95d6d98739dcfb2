"""How often one of k answers is right, form and skill told apart: what a climb is compared with."""

from collections.abc import Sequence
from functools import partial

from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.environments import tools
from inhouse.environments.verdicts import Ask
from inhouse.evaluate.pass_at_k import pass_scores
from inhouse.evaluate.score import Score
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.rl.sampling import Asked, GradeAll, seed_of
from inhouse.rl.turns import Answer, answer_all

_HOW = {
    "strict": "ended by itself, right in the form that is asked for",
    "lenient": "right in whatever form, cut off or not",
}


def sampled_passes(
    engine: Engine,
    template: str,
    questions: Sequence[Asked],
    grade: GradeAll,
    ks: Sequence[int],
    max_tokens: int,
    seed: int,
) -> dict[str, Score]:
    """`strict/pass@1/NAME`, … of every environment, and `lenient/…` where it forgives the form.

    Each question is answered `max(ks)` times, at temperature 1 from the whole distribution. Raises `ValueError` where
    one does not fit the context.
    """
    num_samples = max(ks)
    params = SamplingParams(max_tokens=max_tokens)
    answers = []
    for number, asked in enumerate(questions):
        messages = tools.asked(*asked)
        prompt = encode_prompt(engine.tokenizer, messages, template)
        use_tools = partial(tools.results, asked.environment.tools)
        for sample in range(num_samples):
            answers.append(Answer(prompt, messages, params, partial(seed_of, seed, 0, number, sample), use_tools))
    answer_all(engine, answers, template)
    replies = [None if answer.failure else answer.rollout(0) for answer in answers]
    asked_of = [asked for asked in questions for _ in range(num_samples)]
    asks = [
        Ask(asked.environment.name, asked.problem, "" if reply is None else reply.text)
        for asked, reply in zip(asked_of, replies, strict=True)
    ]
    strict = [
        verdict.score == 1 and reply is not None and reply.finish_reason == "stop"
        for verdict, reply in zip(grade(asks), replies, strict=True)
    ]
    scores: dict[str, Score] = {}
    for name in dict.fromkeys(asked.environment.name for asked in questions):
        places = [place for place, asked in enumerate(asked_of) if asked.environment.name == name]
        right = {"strict": [strict[place] for place in places]}
        if (lenient := asked_of[places[0]].environment.lenient) is not None:
            right["lenient"] = [lenient(asks[place].problem, asks[place].reply).score == 1 for place in places]
        for kind, flags in right.items():
            rows = [flags[start : start + num_samples] for start in range(0, len(flags), num_samples)]
            found = pass_scores(rows, ks, _HOW[kind])
            scores |= {f"{kind}/{which}/{name}": score for which, score in found.items()}
    return scores
