"""Questions on a Python library, from its own source text: what a function does, its signature, its module.

The text is parsed, never imported or run. Every fact is one that the source states (a name, a signature, the first
line of a docstring), so no answer is invented. Documents that are not Python code give none. Replies are not scored:
a docstring says in one way what may be said in many.
"""

import ast
import random
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from inhouse.data.documents import Document, Split, read_documents
from inhouse.environments.environment import Environment, Problem

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
LONGEST_ANSWER = 200  # characters: a longer signature or summary is left out
_SUMMARY_TEMPLATES = ("What does the {kind} {name} of the module {module} do?", "What is {module}.{name} for?")
_SIGNATURE_TEMPLATES = (
    "What is the signature of {module}.{name}?",
    "Which arguments does the function {name} of the module {module} take?",
)
_MODULE_TEMPLATES = ("Which module is the {kind} {name} in?", "Where do I find the {kind} {name}?")


def library_problems(documents: Iterable[Document], seed: int) -> Iterator[Problem]:
    """Up to three for every public function and class at the top of a module that has a docstring."""
    for document in documents:
        if module := module_name(document.path):
            rng = random.Random(f"{seed}/{document.path}")
            for node in _statements(document.text):
                if isinstance(node, _Definition):
                    yield from _about(node, module, rng)


def module_name(path: str) -> str | None:
    """`json/decoder.py` -> `json.decoder`, `json/__init__.py` -> `json`; None for what is no importable module."""
    parts = PurePosixPath(path)
    names = parts.parts[:-1] if parts.name == "__init__.py" else (*parts.parts[:-1], parts.stem)
    is_module = parts.suffix == ".py" and names and all(name.isidentifier() for name in names)
    return ".".join(names) if is_module else None


def _statements(text: str) -> list[ast.stmt]:
    with warnings.catch_warnings(action="ignore"):  # old escapes in other people's strings are not our users' business
        try:
            return ast.parse(text).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []


def _about(node: _Definition, module: str, rng: random.Random) -> Iterator[Problem]:
    summary = (ast.get_docstring(node) or "").split("\n\n", 1)[0].replace("\n", " ").strip()
    if node.name.startswith("_") or not summary:
        return
    names = {"kind": "class" if isinstance(node, ast.ClassDef) else "function", "name": node.name, "module": module}
    answers = [(_SUMMARY_TEMPLATES, summary), (_MODULE_TEMPLATES, "{name} is in the module {module}.".format(**names))]
    if not isinstance(node, ast.ClassDef):
        answers.append((_SIGNATURE_TEMPLATES, f"{node.name}({ast.unparse(node.args)})"))
    for templates, answer in answers:
        if len(answer) <= LONGEST_ANSWER:
            yield Problem(rng.choice(templates).format(**names), answer)


def _draw(split: Split, count: int, seed: int, data: Path | None) -> list[Problem]:
    """`count` of all problems on a corpus (or all, where there are fewer), each as likely; memory holds only these."""
    kept: list[Problem] = []
    rng = random.Random(seed)
    documents = read_documents(data, split) if data and count else ()
    for number, problem in enumerate(library_problems(documents, seed)):
        if number < count:
            kept.append(problem)
        elif (place := rng.randint(0, number)) < count:  # reservoir sampling (Vitter's algorithm R)
            kept[place] = problem
    return kept


LIBRARY = Environment("library", _draw)
