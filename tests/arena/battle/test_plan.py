"""What a run of battles depends on, and plans that cannot be."""

import json
from pathlib import Path

import pytest
from tests.arena.battle.plans import MODELS, plan_in

from inhouse.arena.battle.plan import identity, read_plan, read_prompts
from inhouse.environments.registry import ENVIRONMENTS


def test_who_depends_on_what(tmp_path: Path) -> None:
    plan = plan_in(tmp_path)
    same, other = plan_in(tmp_path, battles=9, at_once=1), plan_in(tmp_path, seed=1)
    assert identity(plan, ()) == identity(same, ()) != identity(other, ())
    assert read_prompts(same) == read_prompts(plan)[:9]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"models": MODELS[:1]}, "1 models; a battle wants two"),
        ({"models": [MODELS[0], MODELS[0]]}, "two models are named good"),
        ({"environment": None}, "give prompts and a judge, or an environment"),
        ({"environment": "aditon"}, 'no environment "aditon"; did you mean "addition"'),
        ({"battles": 0}, "battles: input should be greater than 0"),
        ({"batles": 3}, "batles: extra inputs are not permitted"),
        ({"environment": None, "prompts": "p.jsonl", "judge": MODELS[1]}, "the judge is bad itself"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, lines: dict, said: str) -> None:
    given = {"votes": "v", "head": "h", "key": "k", "battles": 3, "environment": "addition", "models": MODELS} | lines
    text = "".join(
        f"{k} = {json.dumps(v)}\n" for k, v in given.items() if v is not None and k not in ("models", "judge")
    )
    tables = [("models", model) for model in given["models"]]  # type: ignore[attr-defined]
    text += "".join(f"[[{k}]]\n" + "".join(f"{a} = {json.dumps(b)}\n" for a, b in m.items()) for k, m in tables)
    if "judge" in given:
        text += "[judge]\n" + "".join(f"{a} = {json.dumps(b)}\n" for a, b in given["judge"].items())  # type: ignore[attr-defined]
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_plan(tmp_path / "plan.toml")


def test_a_file_of_prompts_is_read_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n\n{"prmpt": "b"}\n')
    plan = plan_in(tmp_path, environment=None, prompts=tmp_path / "p.jsonl", judge={"name": "j", "url": "http://y"})
    with pytest.raises(ValueError, match='line 3: no "prompt" with a text'):
        read_prompts(plan)


def test_an_environment_without_problems_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENTS, "addition", ENVIRONMENTS["addition"]._replace(draw=lambda *given: []))
    with pytest.raises(ValueError, match="addition has no problems of its own"):
        read_prompts(plan_in(tmp_path))
