"""Every reply has a grade, whatever its verifier does: crash, hang, die, lie."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from inhouse.environments.environment import Environment, Grade, Problem
from inhouse.environments.registry import environment_of
from inhouse.environments.verdicts import Ask, Verdicts

PROBLEM = Problem("What is 1 + 1?", "Answer: 2", "2")


def _behave(problem: Problem, reply: str) -> Grade:
    """A verifier that does what the reply says."""
    if reply == "crash":
        return Grade(1 / 0, True)
    if reply == "hang":
        time.sleep(60)
    if reply == "leave":
        raise SystemExit(3)
    if reply == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if reply.startswith("once ") and not Path(reply[5:]).exists():
        Path(reply[5:]).touch()
        os.kill(os.getpid(), signal.SIGTERM)
    if reply == "gone":
        raise ConnectionError("the server of it is gone")
    return Grade(1.5 if reply == "lie" else 0.5, True)


def odd(name: str) -> Environment:
    return Environment(name, lambda *_: [], _behave)


def asks(*replies: str) -> list[Ask]:
    return [Ask("odd", PROBLEM, reply) for reply in replies]


def test_replies_are_graded_in_their_order():
    environment = environment_of("sums:2")
    problems = list(environment.draw("train", 12, 0, None))
    asked = [Ask("sums:2", each, each.worked + "0" * (n % 2)) for n, each in enumerate(problems)]
    with Verdicts(2) as verdicts:
        assert verdicts.grade(asked) == [environment.score(each.problem, each.reply) for each in asked]
        assert verdicts.grade([]) == []
        assert verdicts.num_graded == 12
        assert not verdicts.failures


def test_whatever_a_verifier_does_its_reply_is_worth_nothing_and_the_others_are_graded():
    with Verdicts(1, seconds=0.3, most_failed=1.0, resolve=odd) as verdicts:
        grades = verdicts.grade(asks("fine", "crash", "hang", "fine", "leave", "die", "lie", "gone", "fine"))
        assert [grade.score for grade in grades] == [0.5, 0, 0, 0.5, 0, 0, 0, 0, 0.5]
        failed = {
            "ZeroDivisionError: division by zero": False,
            "the verifier has not ended after 0.3 s": True,
            "SystemExit: 3": False,
            "the verifier's process died (SIGKILL)": True,
            "ValueError: it gave 1.5, which is not between 0 and 1": False,
            "ConnectionError: the server of it is gone": True,
        }
        assert {grade.why: grade.is_late for grade in grades if grade.why} == failed
        assert not any(grade.is_parsed for grade in grades if grade.why)
        assert verdicts.failures == Counter({("odd", why): 1 for why in failed})
        assert verdicts.grade(asks("fine"))[0] == Grade(0.5, True)


def test_a_worker_that_dies_with_nothing_to_do_costs_no_verdict():
    with Verdicts(1, resolve=odd) as verdicts:
        verdicts.grade(asks("fine"))
        process = verdicts._workers[0]._process
        process.kill()
        process.join()
        assert verdicts.grade(asks("fine", "fine")) == [Grade(0.5, True)] * 2
        assert not verdicts.failures


def test_a_worker_that_somebody_ends_costs_no_verdict_either(tmp_path):
    """As a cluster does that tells all processes of a job to end: the climb goes on to the end of its step."""
    with Verdicts(1, resolve=odd) as verdicts:
        grade, fine = verdicts.grade(asks(f"once {tmp_path / 'died'}", "fine"))
        assert grade == fine == Grade(0.5, True)
        assert (verdicts.failures.total(), verdicts.num_graded) == (0, 2)


def test_too_many_failures_end_it_with_one_sentence():
    with Verdicts(1, most_failed=0.5, resolve=odd) as verdicts:
        assert len(verdicts.grade(asks(*["fine", "crash"] * 10))) == 20
        with pytest.raises(
            ValueError, match=r"verifier of odd failed on 11 of the last 21 replies, more .* 0[.]5: 11 "
        ):
            verdicts.grade(asks("crash"))


def test_an_environment_that_is_not_there_is_a_failure_as_any_other():
    with Verdicts() as verdicts:
        (grade,) = verdicts.grade([Ask("chess", PROBLEM, "e4")])
        assert grade.score == 0
        assert grade.why.startswith('ValueError: there is no environment "chess"')


def test_settings_that_grade_nothing_are_a_sentence():
    with pytest.raises(ValueError, match=r"not 0, 5 and 0[.]5"):
        Verdicts(0)
