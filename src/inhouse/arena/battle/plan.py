"""What a run of battles is: who takes part, which prompts, who votes, where the votes go."""

import hashlib
import json
import random
import tomllib
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from inhouse.common.files import json_object
from inhouse.common.settings import Settings
from inhouse.environments.registry import environment_of


class EndpointSettings(Settings):
    """A model behind an endpoint."""

    name: str = Field(min_length=1, description="what the board calls it")
    url: str = Field(description="the endpoint's address, such as https://api.example.com/v1")
    served_as: str | None = Field(default=None, description="what the endpoint calls it; default: its name")
    dialect: Literal["openai", "anthropic"] = Field(default="openai", description="how the endpoint is spoken to")
    key_variable: str | None = Field(default=None, description="the environment variable with the endpoint's key")
    max_tokens: PositiveInt = Field(default=1024, description="of one answer")

    def served(self) -> tuple[str, str]:
        """Which model it is, whatever the board calls it."""
        return self.url, self.served_as or self.name


class Contestant(EndpointSettings):
    """A model that battles; pairs are drawn in proportion to the product of their weights."""

    weight: PositiveFloat = Field(default=1.0, description="how often it is drawn, against the others")


class Plan(Settings):
    """A TOML file of this form is what `inhouse arena battle` reads."""

    votes: Path = Field(description="the log of votes, begun or gone on with")
    head: Path = Field(description="the file that says where the log ends: elsewhere, where its writers cannot write")
    key: Path = Field(description="the file with the key that signs the log")
    battles: PositiveInt = Field(description="how many")
    seed: int = Field(default=0, ge=0, description="of the draw of pairs, sides and prompts")
    prompts: Path | None = Field(default=None, description='JSON Lines of {"prompt", "category"}, for a judge')
    environment: str | None = Field(default=None, description="whose held-out problems are asked, and who votes")
    judge: EndpointSettings | None = Field(default=None, description="the model that votes, asked in both orders")
    models: tuple[Contestant, ...] = Field(description="who battles, two at least")
    at_once: PositiveInt = Field(default=4, description="battles that are fought side by side")


class Prompt(NamedTuple):
    """What two models are asked; `answer` is what the verifier wants, where one votes."""

    text: str
    category: str | None
    answer: str | None


def read_plan(path: Path) -> Plan:
    """Raises `ValueError` with the file, the key and what is wrong with it."""
    try:
        plan = Plan(**tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from error
    except ValueError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    if sentence := _misfit(plan):
        raise ValueError(f"{path}: {sentence}")
    return plan


def _misfit(plan: Plan) -> str | None:
    names = [model.name for model in plan.models]
    if len(names) < 2:
        return f"{len(names)} models; a battle wants two"
    if twice := [name for name in names if names.count(name) > 1]:
        return f"two models are named {twice[0]}"
    if (plan.prompts is None) == (plan.environment is None) or (plan.judge is None) == (plan.environment is None):
        return "give prompts and a judge, or an environment whose verifier votes"
    if plan.environment is not None and environment_of(plan.environment).score is None:
        return f"the environment {plan.environment} has no verifier to vote"
    own = [model.name for model in plan.models if plan.judge and model.served() == plan.judge.served()]
    return f"the judge is {own[0]} itself: no model votes on its own answers" if own else None


def read_prompts(plan: Plan) -> tuple[Prompt, ...]:
    """The prompts of the file in an order of the seed, or as many problems of the environment as there are battles."""
    if plan.environment is not None:
        problems = [*environment_of(plan.environment).draw("heldout", plan.battles, plan.seed, None)]
        if any(problem.tools for problem in problems):
            raise ValueError(f"the environment {plan.environment} offers functions to call, which a battle does not")
        found = tuple(Prompt(problem.prompt, plan.environment, problem.answer) for problem in problems)
        if not found:
            raise ValueError(
                f"the environment {plan.environment} has no problems of its own: it asks about a run's text"
            )
        return found
    assert plan.prompts is not None, "checked when the plan was read"
    lines = plan.prompts.read_text(encoding="utf-8-sig").split("\n")
    prompts = [_prompt(plan.prompts, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise ValueError(f"{plan.prompts}: no prompts")
    random.Random(f"prompts/{plan.seed}").shuffle(prompts)  # a file may be sorted, and the battles fewer
    return tuple(prompts)


def _prompt(path: Path, number: int, line: str) -> Prompt:
    row = json_object(line, where := f"{path}, line {number}")
    text, category = row.get("prompt"), row.get("category")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'{where}: no "prompt" with a text')
    return Prompt(text, category if isinstance(category, str) else None, None)


def identity(plan: Plan, prompts: tuple[Prompt, ...]) -> str:
    """What the battles depend on: after any change of it they are others, and those stored are not gone on with.

    How many there are, and where they are stored, is no part of it.
    """
    said: dict[str, Any] = plan.model_dump(
        mode="json", exclude={"votes", "head", "key", "battles", "prompts", "at_once"}
    )
    text = json.dumps([said, [*map(list, prompts)] if plan.environment is None else None], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
