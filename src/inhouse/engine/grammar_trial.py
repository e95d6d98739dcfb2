"""A grammar tried in a process of its own, which can be stopped: llguidance's limits bound most of its work, not all.

40 patterns that must all match, say, double its work forty times. Run as a script it imports no more than llguidance.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import llguidance

CPU_SECONDS = 5
_PATIENCE = 60.0  # seconds for these on a machine that has other things to do, or knows no limits of a process
TOO_COMPLEX = f"it is too complex: {CPU_SECONDS} s are not enough to begin with it"
# A step takes some ten milliseconds at most; the states that an answer may reach take about 2 kB each.
LIMITS = llguidance.LLParserLimits(max_lexer_states=50_000, verbose_errors=False)


def trial(grammar: str, vocab_size: int) -> str:
    """Why the grammar cannot be followed; "": it can be, as far as that is known before the first token."""
    asked = json.dumps({"grammar": grammar, "vocab_size": vocab_size, "seconds": CPU_SECONDS})
    command = [sys.executable, "-P", str(Path(__file__))]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return TOO_COMPLEX
    return done.stdout if done.returncode == 0 else TOO_COMPLEX


class _Bytes:
    """A vocabulary of the bytes; the other tokens are special, so that a grammar may name them."""

    bos_token_id = None

    def __init__(self, vocab_size: int) -> None:
        self.tokens = [bytes([token]) if token < 256 else b"<%d>" % token for token in range(vocab_size)]
        self.special_token_ids = list(range(256, vocab_size))
        self.eos_token_id = vocab_size - 1

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


def main() -> None:
    asked = json.loads(sys.stdin.read())
    with suppress(ImportError, OSError, AttributeError):  # elsewhere than on Unix
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"], asked["seconds"]))
        os.nice(10)  # before everything else comes what is being answered
    size = max(asked["vocab_size"], 257)
    vocabulary = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes(size)), n_vocab=size)
    matcher = llguidance.LLMatcher(vocabulary, asked["grammar"], log_level=0, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()
    sys.stdout.write(matcher.get_error())


if __name__ == "__main__":
    main()
