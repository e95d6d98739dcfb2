"""How fast the data stage reads, with what it takes of the processor and of memory: one process, a corpus made by code.

    python bench/read.py [--vs COMMIT] [--megabytes 300] [--files 15000]

The corpus has plain text of all lengths, Markdown and code, JSON lines, zip and tar.gz archives; half is not ASCII.
With `--vs` the reader of that commit reads the same corpus, in turns, because this machine's speed drifts. Every turn
is a process of its own; its time is user and system together, from the settings to the written documents.
"""

import argparse
import io
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
LATIN, ACCENTED, CYRILLIC = "abcdefghijklmnopqrstuvwxyz", "abcdeéfghiíjklmnñoópqrstuüvyz", "абвгдежзийклмнопрстуфхц"
ALPHABETS = (LATIN, LATIN, ACCENTED, CYRILLIC)
LINES_A_FILE, MEMBERS_A_FILE = 40, 60  # texts in a .jsonl, files in an archive


def read_once(corpus: str, output: str) -> None:
    """A turn: read, and say in one line of JSON what it took."""
    from inhouse.data.settings import DataSettings, Source
    from inhouse.data.stage import prepare_data

    before, started = os.times(), time.perf_counter()
    prepare_data(DataSettings(sources=(Source(path=corpus, name="mine"),), processes=1), Path(output))
    after = os.times()
    total = json.loads((Path(output) / "counts.json").read_text())["total"]
    print(json.dumps({
        "cpu": after.user + after.system - before.user - before.system,
        "wall": time.perf_counter() - started,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "documents": total["documents"],
    }))  # fmt: skip


def write_corpus(folder: Path, num_bytes: int, num_files: int) -> int:
    """About `num_files` files (members of archives included) with `num_bytes` of text; returns the bytes."""
    rng = random.Random(0)
    words = {
        alphabet: ["".join(rng.choices(alphabet, k=rng.randint(2, 11))) for _ in range(20_000)]
        for alphabet in (LATIN, ACCENTED, CYRILLIC)
    }
    lengths = [rng.lognormvariate(0, 1.2) for _ in range(num_files)]
    scale, written, number = num_bytes / sum(lengths), 0, 0
    texts = (_text(rng, words[rng.choice(ALPHABETS)], int(length * scale)) for length in lengths)
    while number < num_files:
        kind = rng.choices(("plain", "lines", "zip", "tar"), (300, 1, 1, 1))[0]
        wanted = {"plain": 1, "lines": LINES_A_FILE}.get(kind, MEMBERS_A_FILE)
        batch = [text for _, text in zip(range(wanted), texts, strict=False)]
        path = folder / f"{number % 97:02d}" / f"{number:06d}"
        path.parent.mkdir(exist_ok=True)
        _write(path, kind, batch)
        number += max(1, len(batch))
        written += sum(map(len, batch))
    return written


def _text(rng: random.Random, words: list[str], length: int) -> bytes:
    """Lines of some words until there are `length` bytes."""
    lines, size = [], 0
    while size <= length:
        lines.append((" ".join(rng.choices(words, k=12)) + "\n").encode())
        size += len(lines[-1])
    return b"".join(lines)


def _write(path: Path, kind: str, texts: list[bytes]) -> None:
    if kind == "plain":
        path.with_suffix(random.Random(path.name).choice((".txt", ".md", ".py"))).write_bytes(b"".join(texts))
    elif kind == "lines":
        records = (json.dumps({"id": i, "text": text.decode()}, ensure_ascii=False) for i, text in enumerate(texts))
        path.with_suffix(".jsonl").write_text("\n".join(records) + "\n", encoding="utf-8")
    elif kind == "zip":
        with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for i, text in enumerate(texts):
                archive.writestr(f"m{i}.txt", text)
    else:
        with tarfile.open(path.with_suffix(".tar.gz"), "w:gz") as archive:
            for i, text in enumerate(texts):
                info = tarfile.TarInfo(f"m{i}.txt")
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text))


def turn(root: Path, corpus: Path) -> dict[str, float]:
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, __file__, "--turn", str(corpus), output]
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vs", metavar="COMMIT")
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--files", type=int, default=15_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--turn", nargs=2, metavar=("CORPUS", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        read_once(*arguments.turn)
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as after:
        trees = {"now": ROOT}
        if arguments.vs:
            trees[arguments.vs] = Path(name) / "before"
            add = ["git", "worktree", "add", "--quiet", "--detach", str(trees[arguments.vs]), arguments.vs]
            subprocess.run(add, cwd=ROOT, check=True)
            remove = ["git", "worktree", "remove", "--force", str(trees[arguments.vs])]
            after.callback(subprocess.run, remove, cwd=ROOT, check=True)
        corpus = Path(name) / "corpus"
        corpus.mkdir()
        num_bytes = write_corpus(corpus, arguments.megabytes * 1_000_000, arguments.files)
        results: dict[str, list[dict[str, float]]] = {label: [] for label in trees}
        for number in range(arguments.turns):
            for label in list(trees) if number % 2 else reversed(list(trees)):
                results[label].append(turn(trees[label], corpus))
    report(results, num_bytes, arguments.files)


def report(results: dict[str, list[dict[str, float]]], num_bytes: int, num_files: int) -> None:
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [
        f"# Reading {num_bytes / 1e6:.0f} MB of text in {num_files:,} files, one process ({head.stdout.strip()})", "",
        f"`{' '.join(['python', 'bench/read.py', *sys.argv[1:]])}`", "",
        "| reader | MB/s of CPU time (median; least to most) | MB/s of wall time | peak memory | documents |",
        "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for label, turns in results.items():
        speeds = [num_bytes / 1e6 / one["cpu"] for one in turns]
        wall = statistics.median(num_bytes / 1e6 / one["wall"] for one in turns)
        peak = max(one["peak"] for one in turns) / 1e6
        lines.append(
            f"| {label} | {statistics.median(speeds):.1f} ({min(speeds):.1f} to {max(speeds):.1f}) | {wall:.1f} "
            f"| {peak:.0f} MB | {turns[0]['documents']:,} |"
        )
    print("\n".join(lines))
    (ROOT / "bench" / "results" / "read.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
