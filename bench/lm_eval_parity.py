"""The same local task twice through lm_eval: over HTTP against `inhouse serve`, and with transformers on the folder.

    python bench/lm_eval_parity.py FOLDER [--items N] [--backend huggingface|remote]

The task: which of four passages goes on from the beginning of a page of Python's own manual (`pydoc_data`), 60
characters each, the wrong ones from other pages. Both sides compute in fp32. Accuracy must be equal and every
log-likelihood within 1e-3; the figures go to bench/results/lm_eval.md. Needs the `bench` extra, and no network.
"""

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import torch

from inhouse.api.server import listen, new_server
from inhouse.api.settings import ServeSettings
from inhouse.engine.engine import Engine
from inhouse.posttrain.opened_model import open_folder
from inhouse.serve.app import create_app

TOLERANCE = 1e-3
TASK = """\
task: goes_on
dataset_path: json
dataset_kwargs:
  data_files:
    test: {items}
test_split: test
output_type: multiple_choice
doc_to_text: beginning
doc_to_choice: choices
doc_to_target: right
target_delimiter: ""
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


class Scores(NamedTuple):
    """One side's accuracy, and for every item the (log-likelihood, is greedy) of its choices."""

    accuracy: float
    items: dict[int, list[tuple[float, bool]]]
    seconds: float


def make_items(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """`count` items from the manual's pages; the same ones everywhere for one version of Python."""
    rng = random.Random(seed)
    pages = [text for _, text in sorted(topics.items()) if len(text) > 600]
    items = []
    for _ in range(count):
        chosen = rng.sample(pages, 4)
        starts = [rng.randrange(150, len(page) - 60) for page in chosen]
        right = rng.randrange(4)
        items.append(
            {
                "beginning": chosen[right][starts[right] - 150 : starts[right]],
                "choices": [page[start : start + 60] for page, start in zip(chosen, starts, strict=True)],
                "right": right,
            }
        )
    return items


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """`folder` behind HTTP on a free port, in a thread of this process; gives the completions URL."""
    settings = ServeSettings()
    listener = listen("127.0.0.1", 0)
    model, tokenizer, template, _ = open_folder(folder)
    app = create_app(Engine(model, tokenizer), tokenizer, name="served", chat_template=template, settings=settings)
    server = new_server(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/completions"
    finally:
        server.should_exit = True
        thread.join()


def run_lm_eval(work: Path, name: str, model: str, args: dict[str, Any]) -> Scores:
    """One run of lm_eval's command line on the task in `work`."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", model, "--tasks", "goes_on", "--include_path", work]
    command += ["--model_args", ",".join(f"{key}={value}" for key, value in args.items())]
    command += ["--device", "cpu", "--batch_size", 8, "--output_path", work / name, "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(work / "cache")}
    print("$", shlex.join(map(str, command)), flush=True)
    began = time.monotonic()
    done = subprocess.run([str(part) for part in command], env=os.environ | offline, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"lm_eval failed:\n{done.stdout}\n{done.stderr}")
    results = json.loads(next((work / name).rglob("results_*.json")).read_text())
    lines = next((work / name).rglob("samples_*.jsonl")).read_text().splitlines()
    items = {}
    for sample in map(json.loads, lines):
        items[sample["doc_id"]] = [(float(one[0][0]), str(one[0][1]) == "True") for one in sample["resps"]]
    return Scores(results["results"]["goes_on"]["acc,none"], items, time.monotonic() - began)


def compare(over_http: Scores, direct: Scores) -> dict[str, Any]:
    """What the claim is about, as figures."""
    assert over_http.items.keys() == direct.items.keys()
    pairs = [(a, b) for item in direct.items for a, b in zip(over_http.items[item], direct.items[item], strict=True)]
    furthest = max(abs(a[0] - b[0]) for a, b in pairs)
    return {
        "items": len(direct.items),
        "log-likelihoods": len(pairs),
        "accuracy over HTTP": over_http.accuracy,
        "accuracy with transformers": direct.accuracy,
        "largest difference of a log-likelihood": furthest,
        "is_greedy flags that differ": sum(a[1] != b[1] for a, b in pairs),
        "holds": over_http.accuracy == direct.accuracy and furthest <= TOLERANCE,
    }


def write_results(figures: dict[str, Any], folder: Path, backend: str) -> None:
    command = shlex.join(["python", *sys.argv])
    rows = "\n".join(
        f"| {name} | {f'{value:.3g}' if isinstance(value, float) else value} |" for name, value in figures.items()
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("lm_eval", "transformers", "torch"))
    path = Path(__file__).parent / "results" / "lm_eval.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"# lm_eval: `local-completions` against `inhouse serve`, `hf` on the same folder\n\n"
        f"`{command}` ({versions}; fp32, {torch.get_num_threads()} threads, tokenizer backend {backend})\n\n"
        f"| figure | |\n| --- | --- |\n{rows}\n\n"
        f"The bar: same accuracy, log-likelihoods within {TOLERANCE}.\n"
    )
    print(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an exported folder (Hugging Face layout)")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--backend", choices=("huggingface", "remote"), default="huggingface")
    given = parser.parse_args()
    folder = given.folder.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in make_items(given.items)))
        (work / "goes_on.yaml").write_text(TASK.format(items=work / "items.jsonl"))
        context = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
        direct = run_lm_eval(work, "direct", "hf", {"pretrained": folder, "dtype": "float32"})
        with served(folder) as url:
            args = {"model": "served", "base_url": url, "tokenizer_backend": given.backend, "max_length": context}
            if given.backend == "huggingface":
                args["tokenizer"] = folder
            over_http = run_lm_eval(work, "over_http", "local-completions", args)
    figures = compare(over_http, direct)
    write_results(figures, given.folder, given.backend)
    if not figures["holds"]:
        raise SystemExit("the two sides differ")


if __name__ == "__main__":
    main()
