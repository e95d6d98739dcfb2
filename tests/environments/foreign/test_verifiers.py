"""An environment of verifiers behind loopback, with a library of its shape in its place."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.foreign import verifiers as room
from inhouse.environments.registry import check_name, environment_of, file_of
from inhouse.environments.verdicts import Ask, Verdicts

LIBRARY = """
class Rubric:
    weights = [1.0, 0.5, -1.0]
    async def score_rollout(self, state):
        reply = state["completion"][-1]["content"]
        if reply == "crash":
            raise KeyError("crash")
        state["reward"] = 1.0 * (state["answer"] in reply) + 0.5 * (state["info"]["mark"] in reply)

class SingleTurnEnv:
    rubric = Rubric()
    def get_dataset(self):
        for n in range(60):
            prompt = [{"role": "system", "content": "Add."}, {"role": "user", "content": f"{n} + 1?"}]
            yield {"prompt": prompt, "answer": str(n + 1), "info": '{"mark": "="}'}

class MultiTurnEnv:
    pass

def load_environment(package):
    print("loading", package)
    return {"adding": SingleTurnEnv, "chess": MultiTurnEnv}[package]()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A virtual environment, for all that is asked of one: a Python that finds the library."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "verifiers.py").write_text(LIBRARY)
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.delenv(room.SERVERS, raising=False)
    monkeypatch.setenv("SECRET_KEY", "x")
    room._server.cache_clear()
    yield tmp_path
    for server in [room._server("adding", tmp_path), room._server("chess", tmp_path)]:
        if server._process is not None:
            server._process.kill()
            server._process.wait()
    room._server.cache_clear()


def test_problems_and_scores_come_from_its_server_which_may_die(folder):
    name = f"verifiers:adding@{folder}"
    environment = environment_of(check_name(name))
    trained, heldout = (list(environment.draw(split, 100, 1, None)) for split in ("train", "heldout"))
    assert len(trained) == 100
    assert 0 < len(heldout) < 30
    assert len({each.prompt for each in trained} | {each.prompt for each in heldout}) == 60
    problem = trained[0]
    answer = problem.prompt.removeprefix("Add.\n\n").removesuffix(" + 1?")
    right = f"= {int(answer) + 1}"
    assert environment.score(problem, right) == Grade(1.0, True)
    assert environment.score(problem, "=") == Grade(pytest.approx(1 / 3), True)

    process = room._server("adding", folder)._process
    assert b"SECRET_KEY" not in Path(f"/proc/{process.pid}/environ").read_bytes()
    with Verdicts(1, seconds=30) as verdicts:
        asks = [Ask(name, problem, reply) for reply in (right, "crash", "none")]
        assert [grade.score for grade in verdicts.grade(asks)] == [1, 0, 0]
        assert [why for _, why in verdicts.failures] == ["RuntimeError: KeyError: 'crash'"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        (gone,) = verdicts.grade(asks[:1])
        assert (gone.score, gone.is_late) == (0, True)
        assert f"the server of {name} does not answer" in gone.why
        assert list(environment.draw("train", 3, 1, None)) == trained[:3]  # which starts it again
        assert verdicts.grade(asks[:1]) == [Grade(1, True)]
    assert list(json.loads(os.environ[room.SERVERS])) == [name]
    assert file_of(name) == folder


def test_what_cannot_be_served_is_a_sentence(folder, tmp_path):
    with pytest.raises(ValueError, match="chess is no SingleTurnEnv"):
        list(environment_of(f"verifiers:chess@{folder}").draw("train", 1, 0, None))
    with pytest.raises(ValueError, match="is to be a virtual environment with verifiers and adding"):
        list(environment_of(f"verifiers:adding@{tmp_path / 'none'}").draw("train", 1, 0, None))
    with pytest.raises(ValueError, match='"verifiers:adding" names no folder: verifiers:PACKAGE@FOLDER'):
        check_name("verifiers:adding")
