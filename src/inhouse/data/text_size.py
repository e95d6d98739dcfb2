"""How much text there is to train on, in tokens: counted in a run's shards, or estimated before anything is read."""

import math
from collections.abc import Sequence
from pathlib import Path

from inhouse.common.files import read_json
from inhouse.data.settings import Source
from inhouse.data.shards import INDEX
from inhouse.data.sources import Findings, input_files, locate

MANY_PASSES = 8  # over the same text: from there on a model learns it by heart rather than from it
ESTIMATE = (
    "estimated: 1.5 bytes a token at 256 tokens, 0.5 more each doubling, at most 4.5; packed files count as packed"
)


def counted_tokens(tokenizer: Path) -> int | None:
    """The training tokens in a tokenizer stage's folder; None where it is not made."""
    index = tokenizer / "shards" / "train" / INDEX
    return sum(shard["tokens"] for shard in read_json(index)["shards"]) if index.is_file() else None


def estimated_tokens(sources: Sequence[Source], vocab_size: int, holdout_one_in: int) -> int:
    """Training tokens by the sizes of the sources' files, none of which is opened.

    The rule is between what code and prose need (bytes a token on the standard library: 1.5 at 300 tokens, 2.1 at 512,
    2.6 at 1,024, 3.4 at 4,096). Raises `ValueError` where a source is not there.
    """
    num_bytes = sum(file.size for source in sources for file in input_files(locate(source), Findings()))
    bytes_per_token = min(4.5, 1.5 + 0.5 * math.log2(vocab_size / 256))
    return round(num_bytes / bytes_per_token * (1 - 1 / holdout_one_in))


def passes_warning(passes: float) -> str | None:
    """The sentence for a text that is passed over more often than helps."""
    if passes <= MANY_PASSES:
        return None
    return (
        f"{passes:,.1f} passes over the text: beyond {MANY_PASSES} a model learns it by heart; "
        "give more text, or lower [pretrain] tokens"
    )
