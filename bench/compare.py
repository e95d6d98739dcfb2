"""`inhouse compare`: false alarms and power on simulated comparisons; accuracies of lm-eval's and Inspect's own files.

    python bench/compare.py                  # 10,000 comparisons a row, about a minute on one core
    python bench/compare.py --harnesses      # and runs lm_eval and inspect_ai, where both are installed

Writes bench/results/compare.md. The simulation needs numpy alone. Nothing needs the network.
"""

import argparse
import json
import os
import platform
import random
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from inhouse.evaluate.cluster_robust import Array, cluster_sums, clustered_mean
from inhouse.evaluate.compare.comparison import Comparison, compare
from inhouse.evaluate.compare.statistics import (
    ALPHA,
    smallest_visible,
    swap_p,
    swap_test,
)

COMPARISONS, AT_ONCE = 10_000, 1_000
PAIRS = 1_000  # of halves: less exact p-values than `compare` gives, 20 times as fast
CORRELATIONS = (0.0, 0.4, 0.8)
T_BOUND = {30: 2.0452, 100: 1.9842}  # 97.5 % of Student's t with one degree of freedom less
RIGHT = 0.7  # the share of right answers
RESULTS = Path(__file__).parent / "results" / "compare.md"


def sizes_of(kind: str, clusters: int) -> Array:
    """How many items each cluster has."""
    rng = np.random.default_rng(1)
    if kind == "1 to 40":
        return np.clip(np.rint(np.exp(rng.normal(1.2, 0.8, clusters))), 1, 40).astype(int)
    if kind == "3, two of 20":
        return np.array([3] * (clusters - 2) + [20] * 2)
    return np.full(clusters, int(kind))


def latent(rng: np.random.Generator, rows: int, sizes: Array, correlation: float) -> Array:
    """Normal values, (rows, N), that correlate so inside clusters."""
    own = rng.standard_normal((rows, int(sizes.sum())), dtype=np.float32) * (1 - correlation) ** 0.5
    shared = rng.standard_normal((rows, len(sizes)), dtype=np.float32) * correlation**0.5
    return own + np.repeat(shared, sizes, axis=1)


def differences(
    rng: np.random.Generator, rows: int, sizes: Array, correlation: float, data: str, planted: float
) -> Array:
    """A - B of each item, (rows, N), of two models whose true means are `planted` apart."""
    if data == "numbers":
        return latent(rng, rows, sizes, correlation) + planted
    normal = NormalDist()
    bars = [normal.inv_cdf(1 - RIGHT - planted / 2), normal.inv_cdf(1 - RIGHT + planted / 2)]
    a, b = (latent(rng, rows, sizes, correlation) > bar for bar in bars)
    return a.astype(np.float32) - b


def refused(sizes: Array, correlation: float, data: str, planted: float, rows: int) -> dict[str, float]:
    """How often a difference is found: by `compare`, by a t-test with CR2 errors, by one that knows no clusters."""
    rng = np.random.default_rng(2)
    starts, found = np.cumsum(sizes) - sizes, []
    for _ in range(0, rows, AT_ONCE):
        d = differences(rng, AT_ONCE, sizes, correlation, data, planted)
        ones = np.ones(d.shape[1])
        sums = cluster_sums(d, ones, starts)
        t, z = (_ratio(*clustered_mean(each)) for each in (sums, cluster_sums(d, ones, np.arange(len(ones)))))
        found.append([swap_p(sums, PAIRS) < ALPHA, t > T_BOUND[len(sizes)], z > NormalDist().inv_cdf(1 - ALPHA / 2)])
    rates = np.mean(found, axis=(0, 2))
    return dict(zip(("compare", "t-test, CR2", "no clusters"), map(float, rates), strict=True))


def _ratio(value: Array, error: Array) -> Array:
    return np.divide(np.abs(value), error, out=np.zeros_like(error), where=error > 0)


def visible(sizes: Array, correlation: float, data: str) -> float:
    """The smallest visible difference that `compare` prints: the median over 100 comparisons."""
    rng, starts = np.random.default_rng(3), np.cumsum(sizes) - sizes
    said = []
    for d in differences(rng, 100, sizes, correlation, data, 0.0):
        sums = cluster_sums(d, np.ones(len(d)), starts)
        test = swap_test(sums)
        said.append(smallest_visible(float(clustered_mean(sums).standard_error), test.low, test.high, 1))
    return float(np.median(said))


def simulate(comparisons: int) -> Iterator[dict[str, Any]]:
    for clusters, kind in ((30, "1"), (30, "5"), (30, "1 to 40"), (30, "3, two of 20"), (100, "5"), (100, "1 to 40")):
        sizes = sizes_of(kind, clusters)
        for correlation in CORRELATIONS if kind != "1" else (0.0,):
            for data in ("numbers", "right or wrong"):
                alarms = refused(sizes, correlation, data, 0.0, comparisons)
                seen = visible(sizes, correlation, data)
                found = refused(sizes, correlation, data, seen, max(AT_ONCE, comparisons // 5))
                row = {"clusters": clusters, "items each": kind, "correlation": correlation, "scores": data}
                row |= {f"false alarms: {name}": rate for name, rate in alarms.items()}
                row |= {"smallest visible": seen, "power there": found["compare"]}
                print(row, flush=True)
                yield row


# lm-eval and Inspect, on what this file makes


CHOICE_TASK = """\
task: passages
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{passage}}}} {{{{question}}}}"
doc_to_choice: choices
doc_to_target: right
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
GENERATE_TASK = """\
task: letters
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: generate_until
doc_to_text: question
doc_to_target: answer
generation_kwargs: {{max_gen_toks: 8, until: ["\\n"]}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
filter_list:
  - name: strict
    filter: [{{function: regex, regex_pattern: "^([a-h])"}}, {{function: take_first}}]
  - name: lenient
    filter: [{{function: regex, regex_pattern: "([a-h])"}}, {{function: take_first}}]
"""


def make_items() -> dict[str, list[dict[str, Any]]]:
    """Questions of which three share a passage; questions whose answer is a letter."""
    rng = random.Random(0)
    words = ["time", "year", "people", "way", "day", "man", "thing", "woman", "life", "world", "school", "family"]
    choice = []
    for _ in range(40):
        passage = " ".join(rng.choices(words, k=20))
        for _ in range(3):
            choices = rng.sample(words, 4)
            item = {"passage": passage, "question": rng.choice(words), "choices": choices, "right": rng.randrange(4)}
            choice.append(item)
    letters = [{"question": " ".join(rng.choices(words, k=4)), "answer": rng.choice("abcdefgh")} for _ in range(80)]
    return {"passages": choice, "letters": letters}


def make_model(folder: Path, seed: int) -> None:
    """A tiny model with random weights, in Hugging Face layout."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate([*letters, "<end>"])}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=257, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=512, eos_token_id=256, initializer_range=0.5,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)


def run_lm_eval(work: Path, name: str) -> dict[str, float]:
    """Runs both tasks on one model; gives lm-eval's own scores by our names of the tasks."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--tasks", "passages,letters"]
    command += ["--model_args", f"pretrained={work / name},dtype=float32", "--include_path", str(work), "--log_samples"]
    command += ["--device", "cpu", "--batch_size", "16", "--output_path", str(work / f"{name}-results")]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(work / "cache")}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"lm_eval failed:\n{done.stdout}\n{done.stderr}")
    results = json.loads(next((work / f"{name}-results").rglob("results_*.json")).read_text())["results"]
    letters = {f"letters [{taken}]": results["letters"][f"exact_match,{taken}"] for taken in ("strict", "lenient")}
    return {"passages": results["passages"]["acc,none"], **letters}


def run_inspect(work: Path, name: str, seed: int, epochs: int) -> dict[str, float]:
    """One task whose answers are made up here; gives Inspect's own score."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import match
    from inspect_ai.solver import generate, system_message

    items, rng = make_items()["letters"], random.Random(seed)
    samples = [
        Sample(input=item["question"], target=item["answer"], metadata={"passage": number // 4})
        for number, item in enumerate(items)
    ]
    said = [ModelOutput.from_content("mockllm/model", rng.choice("abcdefgh")) for _ in range(len(items) * epochs)]
    for output in said:
        output.usage = ModelUsage()  # without it Inspect would fetch a tokenizer to count with
    task = Task(
        dataset=MemoryDataset(samples, name="letters"), solver=[system_message("Say a letter."), generate()],
        scorer=match(), name="letters",
    )  # fmt: skip
    (log,) = eval(
        task,
        model=get_model("mockllm/model", custom_outputs=said),
        epochs=epochs,
        log_dir=str(work / name),
        display="none",
    )
    assert log.results is not None
    return {"letters": log.results.scores[0].metrics["accuracy"].value}


def harnesses(work: Path) -> Iterator[dict[str, Any]]:
    """Accuracies of both programs' own files, as they say and as `compare` says."""
    for task, items in make_items().items():
        (work / f"{task}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (work / "passages.yaml").write_text(CHOICE_TASK.format(items=work / "passages.jsonl"))
    (work / "letters.yaml").write_text(GENERATE_TASK.format(items=work / "letters.jsonl"))
    theirs = []
    for seed, name in enumerate("ab"):
        make_model(work / name, seed)
        theirs.append(run_lm_eval(work, name))
    yield from _rows("lm_eval", compare(str(work / "a-results"), str(work / "b-results")), *theirs)
    for epochs in (1, 2):
        logs = [f"inspect-{name}-{epochs}" for name in "ab"]
        theirs = [run_inspect(work, name, seed, epochs) for seed, name in enumerate(logs)]
        files = [str(next((work / name).glob("*.eval"))) for name in logs]
        yield from _rows(f"inspect_ai, epochs {epochs}", compare(*files), *theirs)


def _rows(program: str, ours: Comparison, a: dict[str, float], b: dict[str, float]) -> Iterator[dict[str, Any]]:
    for row in ours.tasks:
        difference = max(abs(row.a - a[row.task]), abs(row.b - b[row.task]))
        yield {
            "program": program, "task": row.task, "n": row.n, "clusters": row.clusters, "A": a[row.task],
            "B": b[row.task], "ours differ by": difference, "difference": row.difference,
            "interval": "too few flips" if row.low is None else f"{row.low:.3f} to {row.high:.3f}", "p": row.p,
        }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[f"{x:.3g}" if isinstance(x, float) else str(x) for x in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_results(simulated: list[dict[str, Any]], measured: list[dict[str, Any]], comparisons: int) -> None:
    rates, error = [row["false alarms: compare"] for row in simulated], (0.05 * 0.95 / comparisons) ** 0.5
    sections = [
        "# `inhouse compare`: false alarms, power, and other programs' accuracies",
        f"`{shlex.join(['python', *sys.argv])}` (Python {platform.python_version()}, numpy {np.__version__})",
        f"{comparisons:,} simulated comparisons a row, of two models that do not differ, tested at 5 %. The bar: false "
        f"alarms of 4 to 6 %. Here {100 * min(rates):.2f} to {100 * max(rates):.2f} %, each ± {100 * error:.2f}.",
        table(simulated),
        "Correlation: of items in a cluster, in the difference (numbers) or in each model's latent score (right or "
        "wrong). Smallest visible: the median of what `compare` prints. Power there: how often a true difference of "
        "that size was found.",
    ]
    if measured:
        names = ", ".join(f"{name} {version(name)}" for name in ("lm_eval", "inspect_ai", "transformers"))
        sections += [f"## Accuracies of files that other programs wrote ({names})", table(measured)]
    RESULTS.write_text("\n\n".join(sections) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS)
    parser.add_argument("--harnesses", action="store_true", help="run lm_eval and inspect_ai too")
    given = parser.parse_args()
    measured = []
    if given.harnesses:
        with tempfile.TemporaryDirectory() as work:
            measured = list(harnesses(Path(work)))
        print(table(measured))
    simulated = list(simulate(given.comparisons))
    write_results(simulated, measured, given.comparisons)
    wrong = [row for row in simulated if not 0.04 <= row["false alarms: compare"] <= 0.06]
    wrong += [row for row in measured if row["ours differ by"] > 1e-12]
    if wrong:
        raise SystemExit(f"below the bar: {wrong}")


if __name__ == "__main__":
    main()
