"""A small tokenizer, trained on a few of Python's own modules, for all tests of this room."""

import argparse
import json
from pathlib import Path

import pytest

from inhouse.data.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    files = [Path(argparse.__file__), *sorted(Path(json.__file__).parent.glob("*.py"))]
    return Tokenizer.train([file.read_text(encoding="utf-8") for file in files], vocab_size=600)
