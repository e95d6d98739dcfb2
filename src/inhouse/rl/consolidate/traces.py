"""Traces: answers sampled across a climb's checkpoints, of which those that the verifier finds right are kept.

Early checkpoints say things otherwise than late ones, so that what is learnt from all of them is wider than what the
last one says (MAI-Thinking-1 report, 2026).
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from inhouse.checkpoint.weights import Kept, kept_checkpoints, load_weights
from inhouse.common.devices import pick_device
from inhouse.common.files import write_atomic, write_json
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import Completion, SamplingParams, checked
from inhouse.engine.settings import EngineSettings
from inhouse.environments.tools import asked as messages_of
from inhouse.environments.tools import worked
from inhouse.environments.verdicts import Ask, Verdicts
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.opened_model import read_chat_template, read_generation
from inhouse.rl.consolidate.settings import TraceSettings
from inhouse.rl.problems import problems
from inhouse.rl.sampling import Asked, seed_of
from inhouse.rl.weights import SampledWeights

SUMMARY = "traces.txt"  # beside the traces; JSON, but by its name no file of conversations


class Climbed(NamedTuple):
    """A finished climb: its stage's folder, what to call it, and the checkpoints that traces are of."""

    folder: Path
    name: str
    checkpoints: list[Kept]


def sample_traces(settings: TraceSettings, climbs: Iterable[Path], output: Path, seed: int) -> None:
    """Write `output/NAME.jsonl` of conversations for each climb (a run, or its folder `rl`), and a summary.

    Raises `ValueError` where one is no finished climb, or nothing that it answers is right.
    """
    found = [open_climb(path, settings.checkpoints) for path in climbs]
    if twice := [each.name for n, each in enumerate(found) if each.name in {other.name for other in found[:n]}]:
        raise ValueError(f"two climbs are called {twice[0]}: rename the folder of one, or sample them apart")
    files = {climb.name: output / f"{climb.name}.jsonl" for climb in found}
    if (there := [file for file in files.values() if file.exists()]) and not (output / SUMMARY).is_file():
        raise ValueError(f"{there[0]}: a file that is none of traces would be lost; give another folder")
    output.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"settings": settings.model_dump(mode="json"), "seed": seed, "climbs": {}}
    with Verdicts(settings.workers, settings.verifier_seconds) as verdicts:
        for climb in found:
            lines, counts = list[dict[str, Any]](), list[dict[str, int]]()
            sampler = _Sampler(climb, settings, seed)
            for kept in climb.checkpoints:
                right, count = _right_ones(sampler, kept, settings, verdicts)
                lines += right
                counts.append(count)
                _say(climb, count)
            lines = _different(lines)
            if not lines:
                raise ValueError(f"{climb.folder}: no answer is worth {settings.least_score:g}, so there are no traces")
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            write_atomic(files[climb.name], text)
            summary["climbs"][climb.name] = {"traces": len(lines), "checkpoints": counts}
    write_json(output / SUMMARY, summary)


def open_climb(path: Path, count: int) -> Climbed:
    """The climb in a run, or in its folder `rl`, with `count` of its checkpoints, the last one among them.

    Raises `ValueError` where it is none, or not finished.
    """
    folder = path if (path / "checkpoints").is_dir() else path / "rl"
    if not (folder / "config.json").is_file():
        raise ValueError(f"{path}: no finished climb here; give a run with a folder rl, or that folder")
    kept = kept_checkpoints(folder)
    if not kept or not kept[0].facts["train"].get("environments"):
        raise ValueError(f"{folder}: has no checkpoints of a climb; give the folder rl of a run, or that run")
    if len(kept) < count:
        say = f"traces: {folder} has kept {len(kept)} checkpoints, not {count}: [rl] keep_every keeps more"
        print(say, file=sys.stderr)
    name = (folder.parent if folder.name == "rl" else folder).resolve().name
    return Climbed(folder, name, spread(kept, count))


def spread(kept: Sequence[Kept], count: int) -> list[Kept]:
    """So many of them, evenly, the last one among them; all where there are fewer."""
    return [kept[(place + 1) * len(kept) // count - 1] for place in range(count)] if count < len(kept) else list(kept)


class _Sampler:
    """An engine of a climb's weights, those of one checkpoint after another."""

    def __init__(self, climb: Climbed, settings: TraceSettings, seed: int) -> None:
        facts = climb.checkpoints[0].facts
        self._settings, self._train, self._seed = settings, facts["train"], seed
        with torch.device(pick_device("auto")):
            self._model = Transformer(
                ModelConfig(**facts["model"]), torch.float32 if self._train["precision"] == "fp32" else torch.bfloat16
            )
        load_weights(self._model, climb.checkpoints[0])
        self._weights, self._tokenizer = SampledWeights(self._model, is_compiled=False), Tokenizer.load(climb.folder)
        self._template, limits = read_chat_template(climb.folder), EngineSettings(max_sequences=settings.max_sequences)
        ends = read_generation(climb.folder).end_ids
        self._engine = Engine(self._weights.model, self._tokenizer, limits, ends)

    def answers(self, kept: Kept) -> list[tuple[int, Asked, str]]:
        """What the weights of a checkpoint say to problems, each with a number, and ended by themselves.

        Problems that do not fit the context are left out. Raises `ValueError` for answers of several turns.
        """
        load_weights(self._model, kept)
        self._weights.refresh(self._engine)
        # other problems at each step: a trace is to be of as many as possible
        asked = list(problems(self._train["environments"], self._seed, kept.step, self._settings.problems))
        if with_tools := [each.environment.name for each in asked if each.environment.tools]:
            raise ValueError(f"traces of several turns are not sampled: {with_tools[0]} is answered with tools")
        jobs: dict[int, int] = {}
        for number, each in enumerate(asked):
            prompt = encode_prompt(self._tokenizer, messages_of(each.environment, each.problem), self._template or "")
            if len(prompt) < self._engine.max_context:
                for sample in range(self._settings.samples):
                    jobs[self._engine.add(prompt, self._params(seed_of(self._seed, kept.step, number, sample)))] = (
                        number
                    )
        done = dict[int, Completion]()
        while len(done) < len(jobs):
            outputs = map(checked, self._engine.step())
            done |= {each.id: each.completion for each in outputs if each.completion is not None}
        ended = ((number, done[each]) for each, number in jobs.items())
        return [(number, asked[number], each.text) for number, each in ended if each.finish_reason == "stop"]

    def _params(self, seed: int) -> SamplingParams:
        settings, train = self._settings, self._train
        return SamplingParams(
            max_tokens=settings.max_tokens or train["max_tokens"],
            temperature=settings.temperature or train["temperature"],
            top_p=settings.top_p or train["top_p"],
            seed=seed,
            drawn_logprobs=False,
        )


def _right_ones(
    sampler: _Sampler, kept: Kept, settings: TraceSettings, verdicts: Verdicts
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The traces by the weights of one checkpoint, and their counts."""
    answers = sampler.answers(kept)
    grades = verdicts.grade([Ask(each.environment.name, each.problem, reply) for _, each, reply in answers])
    right = [answer for answer, grade in zip(answers, grades, strict=True) if grade.score >= settings.least_score]
    by_problem: dict[int, list[dict[str, Any]]] = {}
    for number, each, reply in right:
        messages = worked(each.environment, each.problem._replace(worked=reply))
        line = {"messages": messages, "environment": each.environment.name, "step": kept.step}
        by_problem.setdefault(number, []).append(line)
    lines = [line for of_problem in by_problem.values() for line in _different(of_problem)[: settings.kept]]
    asked = settings.problems * settings.samples
    return lines, {"step": kept.step, "asked": asked, "ended": len(answers), "right": len(right), "kept": len(lines)}


def _say(climb: Climbed, count: dict[str, int]) -> None:
    print(
        f"traces: {climb.name}, step {count['step']:,}: {count['right']:,} right of {count['asked']:,} answers, "
        f"{count['kept']:,} kept",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _different(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each conversation once."""
    return list({json.dumps(line["messages"], sort_keys=True): line for line in lines}.values())
