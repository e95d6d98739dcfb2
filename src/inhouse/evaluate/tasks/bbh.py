"""BIG-Bench Hard (Suzgun et al. 2022): 27 tasks, each behind its three examples worked in steps.

Strict: what stands behind the first `the answer is`, up to the end of its line, is the target. Lenient: the same
whatever the case, brackets and quotation marks.
"""

import re
from pathlib import Path

from inhouse.evaluate.tasks.records import find_file, read_whole, text_of
from inhouse.evaluate.tasks.task import Item, Task

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
_SAID = re.compile(r"the answer is[: ]*(.*)", re.IGNORECASE)


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
            asked, target = (text_of(record, key, f"{file}, item {number}") for key in ("input", "target"))
            context = f"{before}\n\nQ: {asked}\nA: Let's think step by step."
            items.append(Item(record, context, answer=target))
        return items

    return Task(name, "generation", read, max_tokens=512, stop=("\n\nQ:",), score=score)


def score(item: Item, reply: str) -> dict[str, float]:
    said = _SAID.search(reply)
    found, target = said[1].strip().removesuffix(".") if said else "", item.answer or ""
    return {
        "exact_match": float(said is not None and found == target),
        "exact_match_lenient": float(said is not None and _plain(found) == _plain(target)),
        "unparsable": float(said is None),
    }


def _plain(text: str) -> str:
    return re.sub(r"[()\"'*]", "", text).strip().lower()
