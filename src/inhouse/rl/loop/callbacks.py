"""What a climb does beside its steps: figures, answers that are kept, scores on held-out problems."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import SamplingParams
from inhouse.environments.verdicts import Ask
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.rl.loop.climb import Climb
from inhouse.rl.loop.figures import kept_answers, step_figures
from inhouse.rl.loop.step_log import StepLog
from inhouse.rl.sampling import Asked, GradeAll
from inhouse.train.loop import Callback, Trainer
from inhouse.train.step import Batch, Gradients

ANSWERS, HELDOUT_SCORES = "answers.jsonl", "heldout_scores.jsonl"  # in the stage's folder


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
        self._questions, self._grade = questions, grade
        chats = [[{"role": "user", "content": problem.prompt}] for _, problem in questions]
        self._prompts = [encode_prompt(tokenizer, chat, template) for chat in chats]

    def on_start(self, trainer: Trainer) -> None:
        self._log = StepLog(trainer.output / HELDOUT_SCORES)
        self.on_rewind(trainer)
        if not trainer.done:
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
        params = SamplingParams(max_tokens=trainer.settings.max_tokens, temperature=0.0, drawn_logprobs=False)
        completions = trainer.rollouts.engine.generate(self._prompts, params)
        pairs = list(zip(self._questions, completions, strict=True))
        grades = self._grade([Ask(asked.environment.name, asked.problem, each.text) for asked, each in pairs])
        for name in dict.fromkeys(asked.environment.name for asked in self._questions):
            own = [
                (grade.score if completion.finish_reason == "stop" else 0.0, completion)
                for (asked, completion), grade in zip(pairs, grades, strict=True)
                if asked.environment.name == name
            ]
            scores, count = [score for score, _ in own], len(own)
            yield {
                "environment": name,
                "score": statistics.fmean(scores),
                "standard_error": statistics.pstdev(scores) / math.sqrt(count),
                "count": count,
                "ends_by_itself": sum(each.finish_reason == "stop" for _, each in own) / count,
                "answer_tokens": sum(len(each.token_ids) for _, each in own) / count,
            }


def is_evaluated(trainer: Trainer) -> bool:
    assert isinstance(trainer, Climb)
    return trainer.done % trainer.settings.evaluate_every == 0 or trainer.done == trainer.num_steps
