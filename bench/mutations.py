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
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
COPIED = ("src", "tests", "recipes", "pyproject.toml")
TIMEOUT = 300.0  # seconds of one run of tests: a fault may make them hang
SURVIVED = "SURVIVED"


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
        ("data does not depend on its settings", '{"data": recipe.data}, ()', "{}, ()"),
        ("tokenizer does not depend on its settings", '{"tokenizer": recipe.tokenizer}', "{}"),
        ("pretrain does not depend on its settings", '"pretrain": recipe.pretrain, ', ""),
        ("pretrain does not depend on the model", "**shape, ", ""),
        ("pretrain does not depend on the seed", '**shape, "seed": recipe.seed', "**shape"),
        ("sft does not depend on its settings", '"sft": recipe.sft, ', ""),
        ("sft does not depend on the seed", '"sft": recipe.sft, "seed": recipe.seed', '"sft": recipe.sft'),
        ("evaluate does not depend on its settings", '{"evaluate": recipe.evaluate}', "{}"),
        ("export does not depend on its settings", '{"export": recipe.export}', "{}"),
        ("tokenizer does not read data", '("data",), tokenizer', "(), tokenizer"),
        ("pretrain does not read tokenizer", '("tokenizer",), pretrain', "(), pretrain"),
        ("sft does not read data", '(*asks, *replays, "pretrain")', '(*replays, "pretrain")'),
        ("sft does not read pretrain", '(*asks, *replays, "pretrain")', "(*asks, *replays)"),
        ("sft does not read what it replays", "if recipe.sft.replay else ()", "if False else ()"),
        ("sft always reads shards", "if recipe.sft.replay else ()", ""),
        ("sft always reads data", 'if recipe.sft.generated.get("library") else ()', ""),
        ("evaluate does not read sft", '("data", "pretrain", "sft")', '("data", "pretrain")'),
        ("export does not read evaluate", '("data", "sft", "evaluate")', '("data", "sft")'),
        ("export does not read data", '("data", "sft", "evaluate")', '("sft", "evaluate")'),
        ("tokenizer is given another folder", 'tokenizer, run / "data", output', 'tokenizer, run / "sft", output'),
        ("pretrain is given another folder", 'model, run / "tokenizer", output', 'model, run / "data", output'),
        ("sft is given base and data crosswise",
         'run / "pretrain", run / "data", run /', 'run / "data", run / "pretrain", run /'),
        ("evaluate is given base and model crosswise",
         'run / "pretrain", run / "sft", output', 'run / "sft", run / "pretrain", output'),
        ("export is given the base model", 'run / "sft", run, output', 'run / "pretrain", run, output'),
        ("pretrain is given another seed",
         'model, run / "tokenizer", output, recipe.seed', 'model, run / "tokenizer", output, 1'),
        ("training does not resume", '"resumes": True', '"resumes": False'),
        ("training is one process's", '"ranks_of": recipe', '"ranks_of": None'),
        ("data has no sources", "data, sources=recipe.data.sources", "data"),
        ("sft has no conversations", "conversations=tuple(each.path for each in recipe.sft.conversations), ", ""),
        ("data has no labels", ", labels=sources)", ")"),
        ("sft has no labels", "labels=taught, ", ""),
        ("export holds no sources' labels", "labels=sources | taught", "labels=taught"),
        ("sft's sampling defaults are read", 'label_files=("generation_config.json",), ', ""),
        ("the model card keeps old labels", '"*lineage.json", "huggingface/README.md"', '"*lineage.json"'),
        ("another folder's sampling defaults", "(folder, recipe.sft.sampling)", "(run, recipe.sft.sampling)"),
        ("checkpoints are read", '("checkpoints/*", ', "("),
        ("metrics are read", '"metrics.jsonl", ', ""),
        ("a base's tokenizer is looked for in the text",
         "recipe.tokenizer, base[0],", 'recipe.tokenizer, run / "data",'),
        ("a base is not copied", "copy_base(base[0], output)", "pass"),
        ("the shape of no base is not read", "{} if base else", "{} if True else"),
        ("weights are not read", '("checkpoints/*", ', '("checkpoints/*", "*.safetensors", '),
        ("which document a token is of is read", 'unread=("shards/*/shard-*.json",)', "unread=()"),
    ]),
    ("settings", "src/inhouse/train/settings.py", "tests/pipeline/test_stages.py", [
        ("what is no part of the result retrains", "    beside_the_result = MAY_CHANGE\n", ""),
    ]),
    ("runner", "src/inhouse/pipeline/runner.py", "tests/pipeline/test_runner.py tests/pipeline/test_plan.py", [
        ("a stage is always made anew", "if record and not changes and not is_forced:", "if False:"),
        ("a done stage's files are not looked at", "check_outputs(folder, record)", "[]"),
        ("a stage that failed leaves its folder", "if not stage.resumes:", "if stage.resumes:"),
        ("nobody is asked", "check_consent(plan[: last + 1], anew, agrees)", "pass"),
        ("what --until leaves counts as current", "write_outdated(run, plan[number + 1 :])", "write_outdated(run, [])"),
        ("unfinished work is thrown away", "place = set_aside(partial, stage.name)",
         "shutil.rmtree(partial); place = partial"),
    ]),
    ("plan", "src/inhouse/pipeline/plan.py", "tests/pipeline/test_plan.py", [
        ("unfinished work of other text does not count", "(not is_known or changes_of", "(changes_of"),
        ("the advice gives up a branch", "--anew {repeated[0].stage.name}", "--anew {first.stage.name}"),
        ("what follows is asked for again", "or covered & set(planned.stage.reads)", ""),
        ("going back is repeated work", "put_back[stage.name] = result_digest(aside)", "remade.add(stage.name)"),
        ("unfinished work that nobody begins counts", "is_begun = bool(reasons) or record is None", "is_begun = True"),
    ]),
    ("replace", "src/inhouse/pipeline/replace.py", "tests/pipeline/test_replace.py", [
        ("what was trained is deleted", "if folder.exists() and (stage.resumes or was_trained(folder)):", "if False:"),
        ("what was trained is deleted where the next trains nothing", "(stage.resumes or was_trained(folder))",
         "stage.resumes"),
        ("a whole stage is not put in its place", "if read_record(partial_folder(run, stage.name)):", "if False:"),
        ("a damaged stage is put back", "and not check_outputs(place, record)]", "]"),
    ]),
    ("branch", "src/inhouse/pipeline/branch.py", "tests/pipeline/test_branch.py", [
        ("a shorter run is a branch", "old < new and", ""),
        ("another rate is a branch", "keys <= set(_LENGTH)", "keys & set(_LENGTH)"),
        ("what lies aside is forgotten", ", *kept_aside(run, stage.name)", ""),
    ]),
    ("runs", "src/inhouse/pipeline/runs.py", "tests/pipeline/test_runs.py", [
        ("a run at work is pruned", "    with lock_folder(run):\n        records", "    if True:\n        records"),
        ("what lies aside is not shown", "(*kept_aside(run), *_unwanted(run), *finished)",
         "(*_unwanted(run), *finished)"),
        ("work of a recipe that was given up is not shown", "*_unwanted(run), ", ""),
        ("work under way is taken for given up", "if stale(run) or not", "if not"),
        ("pruned files are missed", 'if not name.startswith(f"{path.name}/")', ""),
    ]),
    ("changes", "src/inhouse/pipeline/changes.py", "tests/pipeline/test_edits.py", [
        ("a setting that an old record does not know retrains", "or value != default:", "or True:"),
        ("another input goes unnoticed", '!= digest\n', '!= digest and False\n'),
        ("another text goes unnoticed", "        if old != new:", "        if False:"),
    ]),
    ("launch", "src/inhouse/pipeline/launch.py", "tests/pipeline/test_launch.py", [
        ("followers are not told", "_announce(stage.name)", "pass"),
        ("followers are not let go", "_announce(_END)", "pass"),
        ("followers write the finished folder", "partial_folder(run, name)", "run / name"),
    ]),
    ("identity", "src/inhouse/pipeline/identity.py", "tests/pipeline/test_identity.py", [
        ("the listing is ignored", " and listings[index] == listing", ""),
        ("the content is always read", " and listings[index] == listing", " and not listing"),
        ("digest of a source's names only", "(file.name, content_digest(file))", '(file.name, "")'),
        ("digest of a source without names", "(file.name, content_digest(file))", '("", content_digest(file))'),
        ("a listing without inodes and times", "{f.name} {f.version}", "{f.name} {f.size}"),
        ("a listing of conversations without them", "{name} {version_of(each)}", "{name} {each.st_size}"),
        ("whatever lies beside conversations counts",
         "[_listing(path, conversation_files) for", "[_listing(path, lambda p: sorted(p.rglob('*'))) for"),
        ("digest of conversations' names only", "(name, digest(file))", '(name, "")'),
        ("names and places retrain", "if name not in value.beside_the_result", ""),
    ]),
    ("staleness", "src/inhouse/common/lineage.py", "tests/report/test_trace.py tests/common/test_model_paths.py", [
        ("what reads a stale stage is current", "            elif name in reasons:", "            elif False:"),
        ("what the recipe wants otherwise is current", "        if stage in found:", "        if False:"),
        ("made from another one is current", "elif given != result_digest(records[name]):\n                reasons",
         "elif False:\n                reasons"),
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
        ("a source's licence is dropped",
         "            yield key, value", '            yield key, "" if key == "licence" else value'),
        ("what was skipped is dropped", 'yield from ((name, found["count"] if', 'yield from ((name, 0 if'),
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
        ("inputs are dropped", "in input_digests(record)", "in ()"),
        ("outputs are dropped", 'in record["outputs"].items()', "in ()"),
        ("digests are not verified", " or digest(path / name) != expected", ""),
        ("the licence is dropped", 'if key != "path"', 'if key not in ("path", "licence")'),
        ("separators are dropped", '("encodings", "separators")', '("encodings",)'),
        ("untrained batches are dropped", "        if batches:", "        if not batches:"),
        ("only the first attempt", 'for attempt in record["attempts"]:', 'for attempt in record["attempts"][:1]:'),
        ("a run is not verified", "return check_lineage(run)", "return []"),
    ]),
    ("lineage", "src/inhouse/common/lineage.py", "tests/common/test_lineage.py", [
        ("files are not compared", "elif digest(path) != expected:", "elif not path.exists():"),
        ("missing files are no break", 'breaks.append(f"{path}: is missing")', "pass"),
        ("the digest ignores values", "json.dumps(value, sort", "json.dumps(list(value), sort"),
        ("the digest depends on the order", "sort_keys=True", "sort_keys=False"),
        ("inputs are not compared", "if name in records and given != result_digest(records[name])", "if not given"),
        ("an unfinished record counts", 'and "outputs" in record', ""),
        ("labels are those of the settings only", 'record.get("labels") or', ""),
    ]),
    ("content", "src/inhouse/data/split/content.py", "tests/data/split/test_content.py", [
        ("white space counts", "text.encode().translate(None, _SPACES)", "text.encode()"),
        ("Unicode forms count", '"NFKC"', '"NFC"'),
        ("half the share is held out", "range(-(-(2**64)", "range(-(-(2**63)"),
        ("a block for each line", '_ends_of(r"(?>\\r\\n|\\n|\\r)\\s*[\\r\\n]"),', '_ends_of(r"\\r\\n|\\n|\\r"),'),
        ("words are counted off", "crc32(text[start : space.start()].encode()) % 64 == 0", "space.end() % 64 == 0"),
        ("blank lines are a block", "(block.isspace() and start == 0 and end < len(text))", "False"),
    ]),
    ("split", "src/inhouse/data/split/route.py", "tests/data/split/test_route.py", [
        ("nothing is held out by path", "% self._one_in == 0", "< 0"),
        ("by path the text decides", "int.from_bytes(self._path)", "int.from_bytes(self._whole.digest())"),
        ("by path near-copies are dropped", "text if self._by_path else normal_form", "normal_form"),
        ("by content the exact text decides", "text if self._by_path else normal_form(document.text)", "text"),
        ("a duplicate stays on both sides", "np.where(kept, np.where(held", "np.where(kept | held, np.where(held"),
        ("train and held out swapped", "HELDOUT, TRAIN), DROP", "TRAIN, HELDOUT), DROP"),
        ("training text wins over held out", "(~held,", "(held,"),
        ("texts are the same by half a digest", " | (low[1:] != low[:-1])", ""),
        ("a small corpus holds out its largest file", "sizes <= sizes.sum() / 2", "sizes >= sizes.max()"),
        ("pieces are texts", 'kept & ~rows["is_later"]', "kept"),
        ("copies are texts", 'kept & ~rows["is_later"]', '~rows["is_later"]'),
        ("a piece goes by itself",
         "is_held_out(self._whole.digest(), self._held)", "is_held_out(self._rows[self._start :], self._held)"),
        ("large texts go whole", "letters / settings.holdout_one_in)", "letters)"),
        ("long texts go whole", "min(settings.max_document_bytes, ", "min(2**40, "),
        ("near-copies are those alike", 'rows["crc"][order] != rows', 'rows["crc"][order] == rows'),
    ]),
    ("distribute", "src/inhouse/data/split/distribute.py", "tests/data/split/test_distribute.py", [
        ("copies of held-out blocks stay", "elif next(kept_blocks):", "elif next(kept_blocks) or True:"),
        ("held-out blocks are trained on", "            heldout.append(block)", "            train.append(block)"),
        ("a corpus has one side",
         "if not _has_both_sides(parts, measured):\n        lowest", "if False:\n        lowest"),
        ("no bound on what is held out instead", "if len(block.encode()) <= largest:", "if True:"),
        ("whole texts stay as they were", "HELDOUT, TRAIN), part.routes", "part.routes, part.routes), part.routes"),
        ("all below the lowest is held out", "range(lowest, lowest + 1)", "range(lowest + 1)"),
        ("bytes of a text are its documents", "self._bytes += size", "self._bytes += 1"),
    ]),
    ("separators", "src/inhouse/data/separators.py", "tests/data/test_separators.py", [
        ("one of two separators is found first", "key=len, reverse=True", "key=len"),
        ("what the reader cut stays cut", "rest += first", "rest = first"),
        ("line ends stay", 'rest.strip("\\r\\n")', "rest"),
        ("all have one name", "record, number, rest = record + 1", "record, number, rest = record"),
    ]),
    ("look", "src/inhouse/data/look.py", "tests/data/test_look.py", [
        ("copies are not told", "if first != document.id:", "if False:"),
        ("few texts go whole", "return len(texts), letters", "return FEW_TEXTS, letters"),
        ("all is read", "            if len(texts) == enough:", "            if False:"),
        ("held out is all of a text by blocks",
         'paragraphs held out", "".join(held)', 'paragraphs held out", document.text'),
    ]),
    ("sources", "src/inhouse/data/sources.py", "tests/data/test_sources.py", [
        ("files in the disk's order",
         "sorted(os.scandir(folder), key=lambda entry: entry.name)",
         "sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)"),
        ("a folder is entered twice", "seen.add(", "seen.discard("),
    ]),
    ("patterns", "src/inhouse/data/patterns.py", "tests/data/test_sources.py", [
        ("the built-in excludes do not hold", "self._exclude.append(compile_patterns(DEFAULT_EXCLUDES))", "pass"),
        ("what is excluded by the recipe is read", "[compile_patterns(exclude)]", "[]"),
        ("an exclude of the user's opens what is built in", "any(spec", "all(spec"),
    ]),
    ("findings", "src/inhouse/data/findings.py", "tests/data/test_findings.py tests/data/test_sources.py", [
        ("findings of several processes are lost", "self.empty += other.empty", "pass"),
    ]),
    ("documents", "src/inhouse/data/documents.py", "tests/data/test_documents.py", [
        ("missing documents are not noticed", "if num_documents != expected:", "if num_documents > expected:"),
        ("files grow without bound", "if self._bytes >= self.bytes_per_file:", "if False:"),
        ("files in another order", '-*.jsonl.zst"))', '-*.jsonl.zst"))[::-1]'),
    ]),
    ("sample", "src/inhouse/data/tokenizer_stage.py", "tests/data/test_tokenizer_stage.py", [
        ("the sample is the beginning", "start = i * size // number", "start = i * wanted // number"),
        ("sources have one share",
         "sample_bytes * size // total", "sample_bytes // len({file.source for file in files})"),
        ("all files are read", "        if here:", "        if True:"),
        ("a file is read to its end", "        if start >= stretches[-1].stop:", "        if False:"),
        ("letters are cut in two", 'errors="ignore"', 'errors="replace"'),
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
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="inhouse-mutations-") as name:
        tree = copy_of(CHECKOUT, Path(name))
        for tests in dict.fromkeys(each.tests for each in chosen):
            if failed := first_failure(tree, tests):
                raise ValueError(f"{failed} fails without any mutation")
        for mutation in chosen:
            found[mutation.name] = killed_by(tree, mutation) or SURVIVED
            print(f"| {mutation.name} | {found[mutation.name]} |", flush=True)
            if arguments.write:
                write(found)
    survived = list(found.values()).count(SURVIVED)
    print(f"{len(found) - survived} of {len(found)} mutations noticed")
    sys.exit(1 if survived else 0)


def write(found: dict[str, str]) -> None:
    """The table, with what was found now in the place of what was found before."""
    path = RESULTS / "mutations.md"
    rows = dict(row for line in path.read_text().splitlines() if len(row := line.strip("| ").split(" | ")) == 2)
    rows |= found
    table = [f"| {each.name} | {rows[each.name]} |" for each in MUTATIONS if each.name in rows]
    noticed = sum(not line.endswith(f"{SURVIVED} |") for line in table)
    total = f"{noticed} of {len(MUTATIONS)} mutations noticed, {len(table) - noticed} survived."
    head = [
        "# Mutations",
        "",
        "`.venv/bin/python bench/mutations.py --write`; `--only NAME --write` after a test was added.",
        "",
        total,
        "",
    ]
    path.write_text("\n".join([*head, "| mutation | noticed by |", "| --- | --- |", *table]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
