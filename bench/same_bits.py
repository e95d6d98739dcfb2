"""Whether two runs hold the same bits: tensors of every stage, token shards, tensor data of the GGUF files.

.venv/bin/python bench/same_bits.py runs-before/preview runs-after/preview

What a refactor must leave alone. Records (stage.json, lineage, model card) name the code that wrote them and differ.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
from safetensors import safe_open

from inhouse.common.files import digests


def tensor_digests(run: Path) -> Iterator[tuple[str, str]]:
    """Every tensor in a safetensors file of a finished stage, by stage, file and name."""
    for path in sorted(run.glob("[!.]*/**/*.safetensors")):
        if "checkpoints" in path.parts:
            continue
        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)
                content = f"{tensor.dtype} {list(tensor.shape)}".encode() + tensor.view(-1).numpy().tobytes()
                yield f"{path.relative_to(run)}: {name}", hashlib.sha256(content).hexdigest()


def shard_digests(run: Path) -> Iterator[tuple[str, str]]:
    yield from digests(run / "tokenizer" / "shards").items()


def gguf_digests(run: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((run / "export").glob("*.gguf")):
        for tensor in gguf.GGUFReader(path).tensors:
            content = f"{tensor.tensor_type} {tensor.shape.tolist()}".encode() + tensor.data.tobytes()
            yield f"{path.name}: {tensor.name}", hashlib.sha256(content).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    runs = parser.parse_args()
    differing = 0
    for what, function in (("tensors", tensor_digests), ("shards", shard_digests), ("GGUF tensors", gguf_digests)):
        before, after = dict(function(runs.before)), dict(function(runs.after))
        names = sorted(before.keys() | after.keys())
        other = [name for name in names if before.get(name) != after.get(name)]
        differing += len(other) + (not names)
        whole = hashlib.sha256("".join(f"{name} {before.get(name)}" for name in names).encode()).hexdigest()[:16]
        print(f"{what}: {len(names) - len(other)} of {len(names)} equal, digest of all {whole}" + "".join(
            f"\n  differs: {name}" for name in other[:5]
        ))  # fmt: skip
    sys.exit(differing != 0)


if __name__ == "__main__":
    main()
