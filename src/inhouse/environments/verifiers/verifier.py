"""Problems from the rows of a file, and what replies to them are worth: one shape for every published task."""

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.files import json_object
from inhouse.data.documents import Split
from inhouse.environments.environment import Environment, Grade, Problem, is_heldout

Row = Mapping[str, Any]


class Verifier(NamedTuple):
    """`problem` makes a row of the task's file a problem; `score` judges a reply as the task's authors do.

    `lenient`, where there is one, forgives the form, so that form and skill can be told apart. What a problem's
    `answer` holds is between the three of them: text, often JSON.
    """

    name: str
    problem: Callable[[Row], Problem]
    score: Callable[[Problem, str], Grade]
    lenient: Callable[[Problem, str], Grade] | None = None


def read_rows(path: Path) -> list[Row]:
    """The rows of a `.jsonl` or `.jsonl.gz`, or the `examples` of a `.json` or `.json.gz`.

    Raises `ValueError` saying which line is no row.
    """
    data = path.read_bytes()
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole .gz file ({error}); copy it again") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from error
    if ".jsonl" not in path.suffixes:
        return _examples(path, text)
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: texts may hold U+2028 and its like
        if line.strip():
            rows.append(json_object(line, f"{path}, line {number}"))
    return rows


def _examples(path: Path, text: str) -> list[Row]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict) or not isinstance(whole.get("examples"), list):
        raise ValueError(f"{path}: not a JSON object with a list of examples; a file of rows is named .jsonl")
    return whole["examples"]


def problems_of(verifier: Verifier, path: Path) -> list[Problem]:
    """All problems of a file, in its order. Raises `ValueError` where a row lacks what the verifier needs."""
    problems = []
    for number, row in enumerate(read_rows(path), 1):
        try:
            problem = verifier.problem(row)
            if not isinstance(problem.prompt, str) or not isinstance(problem.worked, str):
                raise ValueError("what is asked, or its worked reply, is no text")
            problem.prompt.encode()  # half a surrogate pair is none either
            problems.append(problem)
        except KeyError as missing:
            raise ValueError(f"{path}, row {number}: no {missing}, which {verifier.name} needs") from None
        except (TypeError, AttributeError) as wrong:
            raise ValueError(f"{path}, row {number}: no row of {verifier.name} ({wrong})") from None
        except ValueError as wrong:
            raise ValueError(f"{path}, row {number}: {wrong}") from None
    return problems


def file_environment(verifier: Verifier, path: Path) -> Environment:
    """A file's problems as an environment: a fifth held out by their prompts' hashes, drawn in an order of the seed.

    Training goes through the file again and again, in another order each time; what is held out comes once.
    """

    def draw(split: Split, count: int, seed: int, data: Path | None) -> Iterator[Problem]:
        problems = [each for each in problems_of(verifier, path) if is_heldout(each.prompt) == (split == "heldout")]
        rng = random.Random(f"{verifier.name}/{split}/{seed}")
        num_left = min(count, len(problems)) if split == "heldout" else count * bool(problems)
        while num_left > 0:
            rng.shuffle(problems)
            yield from problems[:num_left]
            num_left -= len(problems)

    return Environment(verifier.name, draw, verifier.score, verifier.lenient)
