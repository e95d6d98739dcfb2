"""The tokenizer stage: a vocabulary learned from a sample of the documents, and all documents as shards of its ids."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from inhouse.common.model_paths import TOKENIZER_FILES, model_files
from inhouse.common.progress import Progress
from inhouse.data.documents import (
    SPLITS,
    Document,
    Written,
    check_count,
    document_files,
    read_document_file,
    read_documents,
    written_files,
)
from inhouse.data.loader import write_sources
from inhouse.data.process_pool import map_ordered
from inhouse.data.settings import TokenizerSettings
from inhouse.data.shards import ShardInfo, ShardWriter, dtype_for, finish_folder
from inhouse.data.tokenizer import Tokenizer

_STRETCH = 1 << 16  # bytes of the sample that may lie together: a few long stretches are no corpus
_SHORTEST, _FEWEST = 512, 16  # a source is sampled at so many places at least, unless stretches became shorter
_BATCH_CHARACTERS = 1 << 21


class _Task(NamedTuple):
    number: int
    file: Path


def train_tokenizer(settings: TokenizerSettings, data: Path, output: Path) -> None:
    """Write the tokenizer and `shards/{train,heldout}/` into `output`, from the data stage's folder `data`.

    Raises `ValueError` where the text does not support the vocabulary.
    """
    output.mkdir(parents=True, exist_ok=True)
    with Progress("tokenizer: learn", None, "texts") as progress:
        tokenizer = Tokenizer.train(
            _counted(sample_texts(data, settings.sample_bytes), progress), settings.vocab_size, settings.pre_tokenizer
        )
    tokenizer.save(output)
    _encode_all(settings, data, output)


def take_tokenizer(settings: TokenizerSettings, base: Path, data: Path, output: Path) -> None:
    """The same with the tokenizer in the model folder `base`, whose chat template and generation config come along."""
    output.mkdir(parents=True, exist_ok=True)
    for path in model_files(base):
        if path.name in TOKENIZER_FILES:
            shutil.copyfile(path, output / path.name)
    _encode_all(settings, data, output)


def _encode_all(settings: TokenizerSettings, data: Path, output: Path) -> None:
    """Every document as ids of the tokenizer in `output`, in shards there."""
    for split in SPLITS:
        folder = output / "shards" / split
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        encode = partial(_encode_file, tokenizer=output, folder=folder, tokens_per_shard=settings.tokens_per_shard)
        tasks = [_Task(number, file) for number, file in enumerate(document_files(data, split))]
        source_of = {file.file: file.source for file in written_files(data, split)}
        shards: list[ShardInfo] = []
        sources: list[int] = []
        with Progress(f"tokenizer: {split}", len(tasks), "files") as progress:
            for task, written in zip(tasks, map_ordered(encode, tasks, settings.processes), strict=True):
                shards += written
                sources += [source_of[task.file.name]] * len(written)
                progress.update(tokens=sum(shard.tokens for shard in shards))
        check_count(data, split, sum(shard.documents for shard in shards))
        finish_folder(folder, shards)
        write_sources(folder, sources)


def sample_texts(data: Path, sample_bytes: int) -> Iterator[str]:
    """`sample_bytes` of training text, or all there is; of each source as large a part as it is of the whole.

    The training texts of a source are laid end to end in the corpus's order, and stretches of them taken at even
    distances: what is taken does not depend on how they are spread over files. Of a large corpus little is read: one
    document file a stretch, up to the stretch's end. Raises `ValueError` where the corpus is an earlier version's.
    """
    files = written_files(data, "train")
    total = sum(file.bytes for file in files)
    if total <= sample_bytes:
        for document in read_documents(data, "train"):
            yield document.text
        return
    for source in sorted({file.source for file in files}):
        mine = [file for file in files if file.source == source]
        size = sum(file.bytes for file in mine)
        yield from _stretches_of(data, mine, list(_stretches(size, sample_bytes * size // total)))


def _stretches(size: int, wanted: int) -> Iterator[range]:
    """`wanted` of `size` bytes, in stretches of at most `_STRETCH` at even distances; of little still several."""
    number = max(-(-wanted // _STRETCH), min(_FEWEST, -(-wanted // _SHORTEST)))
    for i in range(number):
        start = i * size // number
        yield range(start, start + (i + 1) * wanted // number - i * wanted // number)


def _stretches_of(data: Path, files: Sequence[Written], stretches: Sequence[range]) -> Iterator[str]:
    start = 0
    for file in files:
        here = [stretch for stretch in stretches if stretch.start < start + file.bytes and start < stretch.stop]
        if here:
            yield from _cut_out(read_document_file(data / "documents" / file.file), start, here)
        start += file.bytes


def _cut_out(documents: Iterable[Document], start: int, stretches: Sequence[range]) -> Iterator[str]:
    """What of each document lies in a stretch; the first of them begins at byte `start`."""
    for document in documents:
        text = document.text.encode()
        for stretch in stretches:
            if stretch.start < start + len(text) and start < stretch.stop:
                yield text[max(0, stretch.start - start) : stretch.stop - start].decode(errors="ignore")
        start += len(text)
        if start >= stretches[-1].stop:
            return


def _counted(texts: Iterator[str], progress: Progress) -> Iterator[str]:
    for text in texts:
        progress.update()
        yield text


def _encode_file(task: _Task, tokenizer: Path, folder: Path, tokens_per_shard: int) -> list[ShardInfo]:
    loaded = Tokenizer.load(tokenizer)
    writer = ShardWriter(folder, f"part-{task.number:07d}", dtype_for(loaded.vocab_size), tokens_per_shard)
    for batch in _batches(read_document_file(task.file)):
        texts = [document.text for document in batch]
        for document, ids in zip(batch, loaded.encode_batch(texts), strict=True):
            writer.add(document, ids, loaded.end_of_document)
    writer.close()
    return writer.shards


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
