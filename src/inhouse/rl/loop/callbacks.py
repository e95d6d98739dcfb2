"""What a climb does beside its steps: figures, answers that are kept, scores on held-out problems."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import SamplingParams
from inhouse.environments import tools
from inhouse.environments.verdicts import Ask
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.rl.loop.climb import HELDOUT_SCORES, Climb
from inhouse.rl.loop.figures import kept_answers, step_figures
from inhouse.rl.loop.step_log import StepLog
from inhouse.rl.sampling import Asked, GradeAll
from inhouse.rl.turns import Answer, answer_all
from inhouse.train.loop import Callback, Trainer
from inhouse.train.step import Batch, Gradients

ANSWERS = "answers.jsonl"  # in the stage's folder


class ClimbFigures(Callback):
    """Logs what was sampled and learnt, and keeps some answers of the steps that are evaluated."""

    def on_start(self, trainer: Trainer) -> None:
        self._answers = StepLog(trainer.output / ANSWERS)
        self.on_rewind(trainer)

    def on_rewind(self, trainer: Trainer) -> None:
        if trainer.mesh.is_first:
            self._answers.keep_to(trainer.done)

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        assert isinstance(trainer, Climb)
        settings, rollouts = trainer.settings, trainer.rollouts
        trainer.figures |= gradients.figures or {}
        trainer.figures |= step_figures(rollouts.sampled.tried, rollouts.groups, trainer.done - 1)
        trainer.figures |= {"rewinds": trainer.rewinds, "max_tokens": rollouts.max_tokens}
        if settings.objective.entropy_target is not None:
            trainer.figures["entropy_target"] = settings.objective.entropy_target
        if trainer.mesh.is_first and (trainer.done == 1 or is_evaluated(trainer)):
            self._answers.add(trainer.done, kept_answers(rollouts.groups, settings.keep_answers))


class HeldoutScores(Callback):
    """The likeliest answers to held-out problems, every `evaluate_every` steps, before the first and after the last.

    The weights of the best mean score over environments are kept. All processes ask the same and get the same.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, questions: Sequence[Asked], grade: GradeAll) -> None:
        self._questions, self._template, self._grade = questions, template, grade
        self._messages = [tools.asked(*asked) for asked in questions]
        self._prompts = [encode_prompt(tokenizer, messages, template) for messages in self._messages]

    def on_start(self, trainer: Trainer) -> None:
        self._log = StepLog(trainer.output / HELDOUT_SCORES)
        self.on_rewind(trainer)
        if not trainer.done:
            self._log.keep_to(-1)  # an attempt that ended before its first checkpoint measured this too
            self._measure(trainer)

    def on_rewind(self, trainer: Trainer) -> None:
        if trainer.mesh.is_first:
            self._log.keep_to(trainer.done)

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if is_evaluated(trainer):
            self._measure(trainer)

    def _measure(self, trainer: Trainer) -> None:
        assert isinstance(trainer, Climb)
        start = time.perf_counter()
        with trainer.supervisor.validating():
            rows = list(self._rows(trainer))
        score = statistics.fmean(row["score"] for row in rows)
        if trainer.done:
            trainer.figures["heldout_score"] = score
            trainer.figures |= {f"heldout_score/{row['environment']}": row["score"] for row in rows}
        if trainer.mesh.is_first:
            self._log.add(trainer.done, rows)
        if trainer.best is None or score > trainer.best[1]:
            trainer.keep_best(score)
        trainer.paused += time.perf_counter() - start

    def _rows(self, trainer: Climb) -> Iterator[dict[str, Any]]:
        trainer.rollouts.refresh()
        params = SamplingParams(max_tokens=trainer.settings.max_tokens, temperature=0.0)
        triples = zip(self._questions, self._prompts, self._messages, strict=True)
        answers = [
            Answer(prompt, messages, params, lambda turn: turn, partial(tools.results, asked.environment.tools))
            for asked, prompt, messages in triples
        ]
        answer_all(trainer.rollouts.engine, answers, self._template, lambda: None)
        given = [None if answer.failure else answer.rollout(trainer.done) for answer in answers]
        ended = {n: each for n, each in enumerate(given) if each is not None and each.finish_reason == "stop"}
        asks = [Ask(self._questions[n].environment.name, self._questions[n].problem, ended[n].text) for n in ended]
        scores = {n: grade.score for n, grade in zip(ended, self._grade(asks), strict=True)}
        for name in dict.fromkeys(asked.environment.name for asked in self._questions):
            own = [n for n, asked in enumerate(self._questions) if asked.environment.name == name]
            own_scores = [scores.get(n, 0.0) for n in own]
            yield {
                "environment": name,
                "score": statistics.fmean(own_scores),
                "standard_error": statistics.pstdev(own_scores) / math.sqrt(len(own)),
                "count": len(own),
                "ends_by_itself": sum(n in ended for n in own) / len(own),
                "answer_tokens": statistics.fmean(len(each.token_ids) if (each := given[n]) else 0 for n in own),
            }


def is_evaluated(trainer: Trainer) -> bool:
    assert isinstance(trainer, Climb)
    return trainer.done % trainer.settings.evaluate_every == 0 or trainer.done == trainer.num_steps
