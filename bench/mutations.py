"""Faults put into the source one at a time: a test must fail of each.

.venv/bin/python bench/mutations.py

The checkout is not touched: every fault is put into one temporary copy of it, and taken out again.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
COPIED = ("src", "tests", "recipes", "pyproject.toml")
TIMEOUT = 300.0  # seconds of one run of tests: a fault may make them hang


class Mutation(NamedTuple):
    """In `file`, the one place that reads `old` becomes `new`; one of `tests` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str  # files, with spaces between


# what is changed, the file, the tests that must notice, and (the fault, old text, new text)
# fmt: off
_FAULTS: list[tuple[str, str, str, list[tuple[str, str, str]]]] = [
    ("stages", "src/inhouse/pipeline/stages.py", "tests/pipeline/test_stages.py", [
        ("data does not depend on its settings", 'settings("data"), ()', "{}, ()"),
        ("tokenizer does not depend on its settings", 'settings("tokenizer")', "{}"),
        ("pretrain does not depend on its settings", 'training("pretrain") |', "{} |"),
        ("pretrain does not depend on the model", 'settings("model", "seed")', 'settings("seed")'),
        ("pretrain does not depend on the seed", 'settings("model", "seed")', 'settings("model")'),
        ("sft does not depend on its settings", 'training("sft") |', "{} |"),
        ("sft does not depend on the seed", 'training("sft") | settings("seed")', 'training("sft")'),
        ("evaluate does not depend on its settings", 'settings("evaluate")', "{}"),
        ("export does not depend on its settings", 'settings("export")', "{}"),
        ("what is no part of the result retrains", " if name not in MAY_CHANGE", ""),
        ("tokenizer does not read data", '("data",), tokenizer', "(), tokenizer"),
        ("pretrain does not read tokenizer", '("tokenizer",), pretrain', "(), pretrain"),
        ("sft does not read data", '("data", "pretrain"), sft', '("pretrain",), sft'),
        ("evaluate does not read sft", '("data", "pretrain", "sft")', '("data", "pretrain")'),
        ("export does not read evaluate", '("sft", "evaluate")', '("sft",)'),
        ("tokenizer is given another folder", 'run / "data", output)', 'run / "sft", output)'),
        ("pretrain is given another folder", 'run / "tokenizer", output', 'run / "data", output'),
        ("sft is given base and data crosswise",
         'run / "pretrain", run / "data", output', 'run / "data", run / "pretrain", output'),
        ("evaluate is given base and model crosswise",
         'run / "pretrain", run / "sft", output', 'run / "sft", run / "pretrain", output'),
        ("export is given the base model", 'run / "sft", run, output', 'run / "pretrain", run, output'),
        ("pretrain is given another seed", 'run / "tokenizer", output, recipe.seed', 'run / "tokenizer", output, 1'),
        ("training does not resume", '"resumes": True', '"resumes": False'),
        ("training is one process's", '"ranks_of": recipe', '"ranks_of": None'),
        ("data has no sources", ", sources=recipe.data.sources", ""),
    ]),
    ("runner", "src/inhouse/pipeline/runner.py", "tests/pipeline/test_runner.py", [
        ("a stage is always made anew", "has_identity(record, identity)", "not record"),
        ("a done stage's files are not looked at", "check_outputs(folder, record)", "[]"),
        ("a stage that failed leaves its folder", "if not stage.resumes:", "if stage.resumes:"),
    ]),
    ("launch", "src/inhouse/pipeline/launch.py", "tests/pipeline/test_launch.py", [
        ("followers are not told", "_announce(stage.name)", "pass"),
        ("followers are not let go", "_announce(_END)", "pass"),
        ("followers write the finished folder", "partial_folder(run, name)", "run / name"),
    ]),
    ("identity", "src/inhouse/pipeline/identity.py", "tests/pipeline/test_identity.py", [
        ("the listing is ignored",
         'known.get("listings", {}).get(source.name) == listing', 'source.name in known.get("inputs", {})'),
        ("the content is always read", 'known.get("listings", {}).get(source.name) == listing', "not listing"),
        ("digest of a source's names only", 'f"{file.name} {digest(file.path)}"', "file.name"),
        ("digest of a source without names", 'f"{file.name} {digest(file.path)}"', "digest(file.path)"),
        ("a listing without times", " {file.path.stat().st_mtime_ns}", ""),
        ("a stage's inputs by name only", 'digest_of(record["outputs"])', 'digest_of(list(record["outputs"]))'),
        ("one equal part is enough", "return all(", "return any("),
    ]),
    ("provenance", "src/inhouse/pipeline/provenance.py", "tests/pipeline/test_provenance.py", [
        ("a modified checkout is not told",
         'bool(_git(package, "status", "--porcelain", "--", str(package)))', "False"),
        ("GPUs are not told", '"gpus": [torch', '"gpus": [] and [torch'),
    ]),
    ("provenance", "src/inhouse/common/lineage.py", "tests/pipeline/test_provenance.py", [
        ("digest of source names only", "digest(path) for path", "path.name for path"),
    ]),
    ("scores", "src/inhouse/report/scores.py", "tests/report/test_scores.py", [
        ("bits per byte times 1000", '(lambda x: f"{x:.4f}")', '(lambda x: f"{1000 * x:.4f}")'),
        ("shares times 1000", "{100 * x:.1f} %", "{100_000 * x:.1f} %"),
        ("no standard error", 'score.get("standard_error")', "None"),
    ]),
    ("page", "src/inhouse/report/html.py", "tests/report/test_html.py", [
        ("samples are marked right", 'row.get("is_right"), "not scored"', 'True, "not scored"'),
        ("the tokens tile counts the first step", "steps[-1].get", "steps[0].get"),
        ("active parameters as all", "short_count(total), f", "short_count(active), f"),
        ("tiles of built-in kinds only",
         'name.startswith("model/exact_match/")', 'name.endswith(("/addition", "/subtraction"))'),
        ("a tile with another score's value", "(scores[name], label)", "(max(scores.values()), label)"),
        ("a source's licence is dropped", 'if key != "skipped"', 'if key not in ("skipped", "licence")'),
        ("what was skipped is dropped", "} | skipped", "}"),
        ("texts are not escaped", "autoescape=True", "autoescape=False"),
        ("all samples of a kind", "<= SAMPLES_A_KIND", "<= 1000"),
    ]),
    ("charts", "src/inhouse/report/charts.py", "tests/report/test_charts.py", [
        ("learning rate shows the loss", '_column(steps, "lr")', '_column(steps, "loss")'),
        ("steps instead of tokens", 'row.get("tokens") or', "0 or"),
        ("the fullest expert shows the emptiest", 'xs, "expert_load_max")', 'xs, "expert_load_min")'),
        ("layers in another order", "row[i] if", "row[-1 - i] if"),
    ]),
    ("summary", "src/inhouse/report/summary.py", "tests/report/test_summary.py", [
        ("together is the longest stage", "duration(sum(", "duration(max("),
        ("no goodput", 'lines += [f"goodput', '[f"goodput'),
    ]),
    ("trace", "src/inhouse/report/trace.py", "tests/report/test_trace.py", [
        ("inputs are dropped", 'in record["inputs"].items()', "in ()"),
        ("outputs are dropped", 'in record["outputs"].items()', "in ()"),
        ("digests are not verified", " or digest(path / name) != expected", ""),
        ("the licence is dropped", '("name", "path", "skipped")', '("name", "path", "skipped", "licence")'),
        ("untrained batches are dropped", "        if batches:", "        if not batches:"),
        ("only the first attempt", 'for attempt in record["attempts"]:', 'for attempt in record["attempts"][:1]:'),
        ("a run is not verified", "return check_lineage(run)", "return []"),
    ]),
    ("lineage", "src/inhouse/common/lineage.py", "tests/common/test_lineage.py", [
        ("files are not compared", "elif digest(path) != expected:", "elif not path.exists():"),
        ("missing files are no break", 'breaks.append(f"{path}: is missing")', "pass"),
        ("the digest ignores values", "json.dumps(value, sort", "json.dumps(list(value), sort"),
        ("the digest depends on the order", "sort_keys=True", "sort_keys=False"),
        ("inputs are not compared", 'given != digest_of(records[name]["outputs"])', "not given"),
        ("an unfinished record counts", 'and "outputs" in record', ""),
    ]),
    ("split", "src/inhouse/data/split.py", "tests/data/test_split.py", [
        ("nothing is held out by the rule", "% self.holdout_one_in == 0", "< 0"),
        ("held out by text, not by path", "int(path.hexdigest(), 16)", "int(hashlib.md5(text).hexdigest(), 16)"),
        ("a duplicate stays on both sides", "np.where(kept, np.where", "np.where(kept | held, np.where"),
        ("train and held out swapped", "HELDOUT, TRAIN), DROP", "TRAIN, HELDOUT), DROP"),
        ("training text wins over held out", "(~held,", "(held,"),
        ("texts are the same by half a digest", " | (low[1:] != low[:-1])", ""),
        ("a small corpus holds out its largest file", "sizes <= sizes.sum() / 2", "sizes >= sizes.max()"),
    ]),
    ("sources", "src/inhouse/data/sources.py", "tests/data/test_sources.py", [
        ("files in the disk's order",
         "sorted(os.scandir(folder), key=lambda entry: entry.name)",
         "sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)"),
        ("exclude looks at whole paths only", "(*PurePosixPath(name).parts, name)", "(name,)"),
        ("a folder is entered twice", "seen.add(", "seen.discard("),
        ("findings of several processes are lost", "self.empty += other.empty", "pass"),
    ]),
    ("documents", "src/inhouse/data/documents.py", "tests/data/test_documents.py", [
        ("missing documents are not noticed", "if num_documents != expected:", "if num_documents > expected:"),
        ("files grow without bound", "if self._bytes >= self.bytes_per_file:", "if False:"),
        ("files in another order", '-*.jsonl.zst"))', '-*.jsonl.zst"))[::-1]'),
    ]),
    ("sample", "src/inhouse/data/tokenizer_stage.py", "tests/data/test_tokenizer_stage.py", [
        ("the sample is the beginning", "< threshold:", "< 2**64:"),
        ("the sample is of the first files", "files[:: -(-len(files) // _SAMPLE_FILES)]", "files[:_SAMPLE_FILES]"),
        ("the sample has no bound", "if left <= 0:", "if left is None:"),
    ]),
]
# fmt: on
MUTATIONS = [
    Mutation(f"{what}: {fault}", file, old, new, tests)
    for what, file, tests, faults in _FAULTS
    for fault, old, new in faults
]


def copy_of(checkout: Path, folder: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in COPIED:
        if (checkout / name).is_dir():
            shutil.copytree(checkout / name, folder / name, ignore=ignored)
        else:
            shutil.copy(checkout / name, folder / name)
    return folder


def first_failure(tree: Path, tests: str) -> str | None:
    """The test of these files that fails first in `tree`; None where all pass. Raises where a file is missing."""
    if missing := [name for name in tests.split() if not (tree / name).exists()]:
        raise ValueError(f"no such tests: {', '.join(missing)}")
    # no bytecode: the same file changes several times within a second
    env = os.environ | {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *tests.split()]
    try:
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"no end within {TIMEOUT:g} s"
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or found is None:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found[1]


def killed_by(tree: Path, mutation: Mutation) -> str | None:
    """The test that notices the mutation; None where none does."""
    path = tree / mutation.file
    whole = path.read_text(encoding="utf-8")
    if (times := whole.count(mutation.old)) != 1:
        raise ValueError(f"{mutation.name}: {mutation.file} holds {mutation.old!r} {times} times, not once")
    path.write_text(whole.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        compile(path.read_text(encoding="utf-8"), str(path), "exec")
        return first_failure(tree, mutation.tests)
    finally:
        path.write_text(whole, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutations whose name holds this")
    parser.add_argument("--tests", default="", help="run these test files in place of those that are named")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}/mutations.md")
    arguments = parser.parse_args()
    chosen = [each for each in MUTATIONS if arguments.only in each.name]
    if arguments.tests:
        chosen = [each._replace(tests=arguments.tests) for each in chosen]
    rows, survived, started = [], 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="inhouse-mutations-") as name:
        tree = copy_of(CHECKOUT, Path(name))
        for tests in dict.fromkeys(each.tests for each in chosen):
            if failed := first_failure(tree, tests):
                raise ValueError(f"{failed} fails without any mutation")
        for mutation in chosen:
            noticed = killed_by(tree, mutation)
            survived += noticed is None
            rows.append(f"| {mutation.name} | {noticed or 'SURVIVED'} |")
            print(rows[-1], flush=True)
    total = f"{len(chosen) - survived} of {len(chosen)} mutations noticed"
    print(f"{total} in {time.monotonic() - started:.0f} s")
    if arguments.write:
        table = ["| mutation | noticed by |", "| --- | --- |", *rows]
        text = "\n".join(["# Mutations", "", "`.venv/bin/python bench/mutations.py --write`", "", total, "", *table])
        (RESULTS / "mutations.md").write_text(text + "\n", encoding="utf-8")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
