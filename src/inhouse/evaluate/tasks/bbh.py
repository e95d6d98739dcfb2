"""BIG-Bench Hard (Suzgun et al. 2022): 27 tasks, each behind its three examples worked in steps."""

from pathlib import Path

from inhouse.environments.verifiers.bbh import BBH
from inhouse.evaluate.tasks.records import find_file, read_whole
from inhouse.evaluate.tasks.task import Item, Task
from inhouse.evaluate.tasks.verified import problem_of, score_by

TASKS = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa", "dyck_languages",
    "formal_fallacies", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects",
    "logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation",
    "multistep_arithmetic_two", "navigate", "object_counting", "penguins_in_a_table",
    "reasoning_about_colored_objects", "ruin_names", "salient_translation_error_detection", "snarks",
    "sports_understanding", "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects", "web_of_lies", "word_sorting",
)  # fmt: skip
NAMES = tuple(f"bbh/{name}" for name in TASKS)


def bbh_task(name: str, data: Path, limit: int | None) -> Task:
    """One of `NAMES`, from `data`/bbh/{bbh,cot-prompts}."""

    def read() -> list[Item]:
        own = name.removeprefix("bbh/")
        file = find_file(data / "bbh" / "bbh", f"{own}.json")
        prompt = find_file(data / "bbh" / "cot-prompts", f"{own}.txt").read_text(encoding="utf-8")
        before = prompt.partition("-----\n")[2].strip()  # the lines above are a canary
        whole = read_whole(file)
        if not isinstance(whole, dict) or not isinstance(whole.get("examples"), list):
            raise ValueError(f"{file}: not a file of BIG-Bench Hard: it has no list of examples")
        items = []
        for number, record in enumerate(whole["examples"][:limit]):
            problem = problem_of(BBH, record, f"{file}, item {number}")
            context = f"{before}\n\nQ: {problem.prompt}\nA: Let's think step by step."
            items.append(Item(record, context, answer=problem.answer))
        return items

    return Task(name, "generation", read, max_tokens=512, stop=("\n\nQ:",), score=score_by(BBH))
