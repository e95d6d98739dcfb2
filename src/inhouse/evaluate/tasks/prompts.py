"""IFEval (Zhou et al. 2023) and HumanEval (Chen et al. 2021): all that is asked stands in their files."""

from pathlib import Path

from inhouse.environments.sandbox.sandbox import Sandbox
from inhouse.environments.verifiers.human_eval import chat_problem, human_eval
from inhouse.environments.verifiers.ifeval import IFEVAL
from inhouse.evaluate.tasks.task import Task
from inhouse.evaluate.tasks.verified import prompts_task


def ifeval_task(name: str, data: Path, limit: int | None) -> Task:
    """From `data`/ifeval/input_data.jsonl; `credit` is the share of an item's instructions that were followed."""
    return prompts_task(
        name, data, limit, file="ifeval/input_data.jsonl", verifier=IFEVAL, max_tokens=1_280, gives_credit=True
    )


def human_eval_task(name: str, data: Path, limit: int | None) -> Task:
    """From `data`/humaneval/HumanEval.jsonl; answers are run in the sandbox."""
    file, verifier = "humaneval/HumanEval.jsonl", human_eval(Sandbox())
    return prompts_task(name, data, limit, file=file, verifier=verifier, max_tokens=512, as_chat=chat_problem)
