"""Five local tasks on one model, by `inhouse eval --suite` and by lm-eval's `hf` and `inhouse` models: same? how fast?

    python bench/tasks.py [--folder FOLDER] [--items N] [--rounds N] [--batch-size N]

The tasks are made of the pages of Python's own manual (`pydoc_data`): which of four passages goes on from a beginning
(short, and as long as ten worked examples make it), which letter, which of ten endings, which of two sentences. Without
a folder the model is a random Qwen3 made here. All compute in fp32. The choices must be identical and every
log-likelihood within 1e-3. Speed is the ratio of the time that lm-eval's `hf` takes for a task's requests (without what
lm-eval does around it) to that of ours for its items (all but printing), in turns; CPU seconds of one thread, because
machines are shared. The figures go to bench/results/tasks.md. Needs the `bench` extra, and no network.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import torch

from inhouse.checkpoint.model_folder import save_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.results import Answer, ResultsWriter
from inhouse.evaluate.suite.runner import Runner
from inhouse.evaluate.tasks.jsonl import Shape, jsonl_task
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.opened_model import open_folder

TOLERANCE = 1e-3
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: choices
doc_to_target: gold
target_delimiter: "{delimiter}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


class Made(NamedTuple):
    """How a task's items are made: characters of context and of a choice, how many choices."""

    context: int
    choice: int
    num_choices: int


TASKS = {
    "goes_on": Made(160, 60, 4),
    "as_with_ten_examples": Made(2_200, 60, 4),
    "letters": Made(300, 0, 4),
    "ten_endings": Made(600, 40, 10),
    "sentences": Made(0, 80, 2),
}


class Found(NamedTuple):
    """Of one side: log-likelihoods of every item's choices, which was chosen, and the CPU seconds."""

    likelihoods: list[list[float]]
    chosen: list[int]
    seconds: float


def make_items(made: Made, count: int, rng: random.Random) -> list[dict[str, Any]]:
    """`count` items; the same ones everywhere for one version of Python."""
    pages = [text for _, text in sorted(topics.items()) if len(text) > 2_600]
    items = []
    for _ in range(count):
        chosen = [rng.choice(pages) for _ in range(made.num_choices)]
        starts = [rng.randrange(made.context, len(page) - made.choice) for page in chosen]
        gold = rng.randrange(made.num_choices)
        context = chosen[gold][starts[gold] - made.context : starts[gold]]
        choices = [page[start : start + made.choice] for page, start in zip(chosen, starts, strict=True)]
        if not made.choice:
            choices = [chr(ord("A") + number) for number in range(made.num_choices)]
        if made.choice and made.context == 0:
            choices[1] = " ".join(reversed(choices[0].split()))
            gold = 0
        items.append({"context": context, "choices": choices, "gold": gold})
    return items


def make_model(folder: Path) -> None:
    """A random Qwen3 of 8 layers of 256, whose tokenizer has learned the manual."""
    tokenizer = Tokenizer.train([text for _, text in sorted(topics.items())], vocab_size=4_096)
    tokenizer.save(folder, 1_024)
    config = ModelConfig(
        architecture="qwen3", vocab_size=4_096, hidden_size=256, num_layers=8, num_heads=4, num_kv_heads=2,
        head_dim=64, intermediate_size=768, max_position=1_024,
    )  # fmt: skip
    model, generator = Transformer(config), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    save_model(model, folder)


def by_inhouse(runner: Runner, name: str, file: Path, delimiter: str, work: Path) -> Found:
    start = time.process_time()
    task = jsonl_task(name, file, Shape("multiple_choice", delimiter=delimiter))
    with tempfile.TemporaryDirectory(dir=work) as folder, ResultsWriter(Path(folder), {}) as writer:
        answers: list[Answer] = runner.answer(task, list(task.items()), writer)
    seconds = time.process_time() - start
    likelihoods = [[choice.log_likelihood for choice in answer.choices] for answer in answers]
    return Found(likelihoods, [answer_index(own) for own in likelihoods], seconds)


def answer_index(likelihoods: list[float]) -> int:
    return max(range(len(likelihoods)), key=lambda i: likelihoods[i])


def by_lm_eval(model: Any, task: Any) -> Found:
    """What the model itself takes for the task's requests, without what lm-eval does around it."""
    start = time.process_time()
    results = model.loglikelihood(task.instances, disable_tqdm=True)
    seconds = time.process_time() - start
    likelihoods: dict[int, list[float]] = {}
    for instance, (value, _) in zip(task.instances, results, strict=True):
        likelihoods.setdefault(instance.doc_id, []).append(value)
    ordered = [likelihoods[number] for number in sorted(likelihoods)]
    return Found(ordered, [answer_index(own) for own in ordered], seconds)


def compare(ours: Found, theirs: Found) -> tuple[int, float]:
    """How many chosen differ, and the largest difference of a log-likelihood."""
    pairs = [
        (a, b) for x, y in zip(ours.likelihoods, theirs.likelihoods, strict=True) for a, b in zip(x, y, strict=True)
    ]
    differ = sum(a != b for a, b in zip(ours.chosen, theirs.chosen, strict=True))
    return differ, max(abs(a - b) for a, b in pairs)


def measure(folder: Path, work: Path, items: int, rounds: int, batch_size: int) -> tuple[list[str], bool]:
    """A row of the table for each task, and whether all holds."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict

    from inhouse.evaluate.lm_eval_model import InhouseLM

    rng, delimiters = random.Random(0), {}
    for name, made in TASKS.items():
        delimiters[name] = " " if name == "letters" else ""
        records = make_items(made, items, rng)
        (work / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        text = TASK.format(name=name, file=work / f"{name}.jsonl", delimiter=delimiters[name])
        (work / f"{name}.yaml").write_text(text)
    manager = TaskManager(include_path=str(work), include_defaults=False)
    runner, registered = Runner(open_folder(folder, "fp32")), InhouseLM(str(folder))
    prefix = runner.tokenizer.end_of_document
    hf = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=batch_size, prefix_token_id=prefix)
    rows, holds = [], True
    for name in TASKS:
        task = get_task_dict([name], manager)[name]
        task.build_all_requests()
        ask: Callable[[], Found] = lambda name=name: by_inhouse(  # noqa: E731
            runner, name, work / f"{name}.jsonl", delimiters[name], work
        )
        ours, theirs, registered_found = ask(), by_lm_eval(hf, task), by_lm_eval(registered, task)
        differ, furthest = compare(ours, theirs)
        differ_too, furthest_too = compare(registered_found, theirs)
        ratios = []
        for turn in range(rounds):
            if turn % 2:
                mine, other = ask().seconds, by_lm_eval(hf, task).seconds
            else:
                other, mine = by_lm_eval(hf, task).seconds, ask().seconds
            ratios.append(other / mine)
        holds &= differ + differ_too == 0 and max(furthest, furthest_too) <= TOLERANCE
        shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append(
            f"| {name} | {items} | {TASKS[name].num_choices} | {differ} | {furthest:.1e} | {differ_too} | "
            f"{furthest_too:.1e} | {shown} |"
        )
        print(rows[-1], flush=True)
    return rows, holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a model folder; default: a random model made here")
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8, help="of lm-eval's hf")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["HF_HOME"] = str(work / "cache")
        folder = given.folder
        if folder is None:
            (folder := work / "model").mkdir()
            make_model(folder)
        rows, holds = measure(folder, work, given.items, given.rounds, given.batch_size)
    versions = ", ".join(f"{package} {version(package)}" for package in ("lm_eval", "transformers", "torch"))
    head = (
        "| task | items | choices | chosen otherwise | furthest log-likelihood | as lm-eval's `inhouse` | furthest | "
        "time of `hf` over ours |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    text = (
        f"# Tasks with choices: `inhouse eval --suite` against lm-eval's `hf`\n\n"
        f"`python {' '.join(sys.argv)}` ({versions}; fp32, CPU seconds of one thread, batches of "
        f"{given.batch_size} for `hf`; median and range of {given.rounds} pairs)\n\n{head}\n" + "\n".join(rows) +
        f"\n\nThe bars: identical choices, log-likelihoods within {TOLERANCE}; at least 3 times as fast on choices of "
        f"several tokens.\n"
    )  # fmt: skip
    (Path(__file__).parent / "results" / "tasks.md").write_text(text)
    print(text)
    if not holds:
        raise SystemExit("the two sides differ")


if __name__ == "__main__":
    main()
