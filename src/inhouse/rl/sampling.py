"""Sampling a step's rollouts: many answers to each problem, until enough of the groups have something to teach."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple, Protocol

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.environments import tools
from inhouse.environments.environment import Environment, Grade, Problem
from inhouse.environments.verdicts import Ask
from inhouse.parallel.control_plane import ControlPlane
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.messages import Message
from inhouse.rl.rollouts import Group, Rollout
from inhouse.rl.turns import Answer, answer_all

log = logging.getLogger(__name__)
_TIMEOUT = timedelta(hours=1)  # for the slowest process to sample its part


class SamplingSettings(Protocol):
    """Of `[rl]`, how rollouts are sampled."""

    @property
    def prompts(self) -> int: ...  # groups of a step
    @property
    def samples(self) -> int: ...  # of a group
    @property
    def first_samples(self) -> int: ...
    @property
    def pass_rate_low(self) -> float: ...
    @property
    def pass_rate_high(self) -> float: ...
    @property
    def tried(self) -> float: ...  # problems at most, as a multiple of prompts
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...


class Asked(NamedTuple):
    """A problem and the environment that it is from."""

    environment: Environment
    problem: Problem


class Tried(NamedTuple):
    """What became of a problem, learnt from or not. `score` and `reward` are means over its `num_samples` answers.

    `is_early`: its first answers were too good or too bad for more. `is_dropped`: nothing is learnt from it, because
    all rewards are equal. `num_failed` answers could not be computed, `num_late` were not graded for want of time;
    `num_cut` were ended by their limit.
    """

    environment: str
    num_samples: int
    score: float
    reward: float
    num_tokens: int
    num_cut: int
    num_failed: int
    num_late: int
    is_early: bool
    is_dropped: bool


class Sampled(NamedTuple):
    """A step's rollouts: the groups that are learnt from, in the order of their problems, and all that were tried.

    `num_too_long` problems did not fit the context and were passed over. `shortage` says in a sentence why there are
    fewer groups than were wanted; empty where there are not.
    """

    groups: list[Group]
    tried: list[Tried]
    num_too_long: int
    shortage: str


GradeAll = Callable[[Sequence[Ask]], list[Grade]]
Reward = Callable[[Problem, Sequence[Rollout], Sequence[Grade]], list[float]]


def seed_of(seed: int, step: int, problem: int, sample: int, turn: int = 0) -> int:
    """The seed of one turn of one answer: a pure function, so that every process and a resumed climb find the same."""
    digest = blake2b(f"{seed}/{step}/{problem}/{sample}/{turn}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


class _Open:
    """A problem while it is sampled."""

    def __init__(self, number: int, asked: Asked, messages: list[Message], prompt: list[int]) -> None:
        self.number, self.asked, self.messages, self.prompt = number, asked, messages, prompt
        self.rollouts: list[Rollout] = []
        self.grades: list[Grade] = []
        self.num_asked = self.num_failed = 0  # answers

    @property
    def pass_rate(self) -> float:
        return sum(grade.score for grade in self.grades) / max(len(self.grades), 1)


class _Job(NamedTuple):
    """One answer that is to be sampled."""

    open: _Open
    sample: int


_Answered = dict[tuple[int, int], tuple[Rollout | None, Grade]]  # by problem and sample; no rollout: it failed


class Sampler:
    """Samples by an engine that has the weights; `grade` are the verifiers, `reward` gives what is learnt from.

    With the same `seed`, step and weights it samples the same, whatever was generated before and wherever a climb was
    resumed. Several processes share the problems of a step and all have its rollouts: they must make a sampler, and use
    it, together. `on_phase` hears what begins.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        template: str,
        settings: SamplingSettings,
        seed: int,
        grade: GradeAll,
        reward: Reward,
        on_phase: Callable[[str], None] = lambda phase: None,
        processes: ControlPlane | None = None,
    ) -> None:
        """`processes`: those that share the problems; by default all that there are."""
        self.engine, self.tokenizer, self.template, self.settings = engine, tokenizer, template, settings
        self.seed, self.on_phase = seed, on_phase
        self.processes = processes or ControlPlane(_TIMEOUT)
        self._grade, self._reward = grade, reward

    def sample(self, step: int, weights_step: int, problems: Iterator[Asked], max_tokens: int) -> Sampled:
        """The rollouts of `step` by the engine's weights, those of `weights_step`; problems are taken as needed.

        Problems are asked in rounds: as many as groups are missing, `first_samples` answers each, and the other answers
        to those whose pass rate lies between the bounds. It ends when all groups are there, or `tried` times as many
        problems were asked. Raises what `grade` does.
        """
        self.engine.forget_prefixes()  # so that nothing depends on what was generated before
        settings = self.settings
        most = math.ceil(settings.tried * settings.prompts)
        first = min(settings.first_samples, settings.samples)
        numbered = enumerate(islice(problems, most))
        pending: list[_Open] = []
        done: list[tuple[_Open, Tried, Group | None]] = []
        num_too_long = 0
        while True:
            num_missing = settings.prompts - len(pending) - sum(group is not None for *_, group in done)
            taken = [self._opened(*each) for each in islice(numbered, num_missing)]
            new = [each for each in taken if each is not None]
            num_too_long += len(taken) - len(new)
            jobs = [_Job(each, sample) for each in pending for sample in range(first, settings.samples)]
            jobs += [_Job(each, sample) for each in new for sample in range(first)]
            if not jobs:
                if taken:
                    continue  # all of them too long
                break
            self._answer(jobs, step, weights_step, max_tokens)
            asked = sorted([*pending, *new], key=lambda each: each.number)
            pending = [each for each in asked if self._is_worth_more(each)]
            done += [self._closed(each) for each in asked if each not in pending]
        done.sort(key=lambda each: each[0].number)
        groups = [group for *_, group in done if group is not None]
        tried = [each for _, each, _ in done]
        return Sampled(groups, tried, num_too_long, _shortage(groups, tried, num_too_long, settings))

    def _opened(self, number: int, asked: Asked) -> _Open | None:
        """None where the prompt leaves no room for an answer."""
        messages = tools.asked(*asked)
        prompt = encode_prompt(self.tokenizer, messages, self.template)
        return _Open(number, asked, messages, prompt) if len(prompt) < self.engine.max_context else None

    def _answer(self, jobs: Sequence[_Job], step: int, weights_step: int, max_tokens: int) -> None:
        """Sample and grade all answers, each in one process, and tell the others."""
        processes = self.processes
        mine = [job for job in jobs if job.open.number % processes.world == processes.rank]

        def answered_here() -> _Answered:
            found = self._answered(mine, step, weights_step, max_tokens)
            self.on_phase("rollouts of others")
            return found

        by_rank = processes.gather(answered_here)
        answered = {key: answer for each in by_rank for key, answer in each.items()}
        for job in jobs:
            rollout, grade = answered[job.open.number, job.sample]
            job.open.num_asked += 1
            if rollout is None:
                job.open.num_failed += 1
            else:
                job.open.rollouts.append(rollout)
                job.open.grades.append(grade)

    def _answered(self, jobs: Sequence[_Job], step: int, weights_step: int, max_tokens: int) -> _Answered:
        settings = self.settings
        params = SamplingParams(
            max_tokens=max_tokens, temperature=settings.temperature, top_p=settings.top_p,
            kept=settings.top_p < 1, experts=True,
        )  # fmt: skip
        answers = [self._begun(job, step, params) for job in jobs]
        answer_all(self.engine, answers, self.template, lambda: self.on_phase("rollouts"))
        rollouts = [None if answer.failure else answer.rollout(weights_step) for answer in answers]
        for why, count in Counter(answer.failure for answer in answers if answer.failure).items():
            log.warning("step %d: %d of %d rollouts failed: %s", step, count, len(answers), why)
        self.on_phase("verdicts")
        asks = {
            place: Ask(job.open.asked.environment.name, job.open.asked.problem, rollout.text)
            for place, (job, rollout) in enumerate(zip(jobs, rollouts, strict=True))
            if rollout is not None and rollout.finish_reason == "stop"
        }
        cut = Grade(0.0, False, f"not ended within {max_tokens:,} tokens")
        grades = dict(zip(asks, self._grade(list(asks.values())), strict=True))
        return {
            (job.open.number, job.sample): (rollout, grades.get(place, cut))
            for place, (job, rollout) in enumerate(zip(jobs, rollouts, strict=True))
        }

    def _begun(self, job: _Job, step: int, params: SamplingParams) -> Answer:
        seed = partial(seed_of, self.seed, step, job.open.number, job.sample)
        use_tools = partial(tools.results, job.open.asked.environment.tools)
        return Answer(job.open.prompt, job.open.messages, params, seed, use_tools)

    def _is_worth_more(self, each: _Open) -> bool:
        is_between = self.settings.pass_rate_low <= each.pass_rate <= self.settings.pass_rate_high
        return each.num_asked < self.settings.samples and is_between

    def _closed(self, each: _Open) -> tuple[_Open, Tried, Group | None]:
        environment, problem = each.asked
        rewards = self._reward(problem, each.rollouts, each.grades) if each.rollouts else []
        is_dropped = len(set(rewards)) < 2
        tried = Tried(
            environment=environment.name,
            num_samples=len(rewards),
            score=each.pass_rate,
            reward=sum(rewards) / max(len(rewards), 1),
            num_tokens=sum(int(rollout.is_sampled.sum()) for rollout in each.rollouts),
            num_cut=sum(rollout.finish_reason == "length" for rollout in each.rollouts),
            num_failed=each.num_failed,
            num_late=sum(grade.is_late for grade in each.grades),
            is_early=each.num_asked < self.settings.samples,
            is_dropped=is_dropped,
        )
        group = None if is_dropped else Group(environment.name, problem, each.rollouts, each.grades, rewards)
        return each, tried, group


def _shortage(groups: Sequence[Group], tried: Sequence[Tried], num_too_long: int, settings: SamplingSettings) -> str:
    if len(groups) >= settings.prompts:
        return ""
    dropped = [each for each in tried if each.is_dropped]
    solved = sum(each.score == 1 for each in dropped)
    too_long = f", {num_too_long:,} did not fit the context" if num_too_long else ""
    return (
        f"{len(groups):,} of {settings.prompts:,} groups after {len(tried) + num_too_long:,} problems: answers to "
        f"{len(dropped):,} were all worth the same ({solved:,} solved every time){too_long}"
    )
