"""Conversations about a Python library, read from its own source text: what a function does, its signature, its module.

The text is parsed, never imported or run. Every fact is one that the source states (a name, a signature, the first
line of a docstring), so no answer is invented. Documents that are not Python code give none.
"""

import ast
import random
import warnings
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from inhouse.data.documents import Document

Message = dict[str, str]

LONGEST_ANSWER = 200  # characters: a longer signature or summary is left out
_SUMMARY_QUESTIONS = (
    "What does the {kind} {name} of the module {module} do?",
    "What is {module}.{name} for?",
)
_SIGNATURE_QUESTIONS = (
    "What is the signature of {module}.{name}?",
    "Which arguments does the function {name} of the module {module} take?",
)
_MODULE_QUESTIONS = (
    "Which module is the {kind} {name} in?",
    "Where do I find the {kind} {name}?",
)


def library_conversations(documents: Iterable[Document], seed: int) -> Iterator[list[Message]]:
    """Up to three conversations for every public function and class at the top of a module that has a docstring."""
    for document in documents:
        module = module_name(document.path)
        tree = _parse(document.text) if module else None
        if module and tree:
            rng = random.Random(f"{seed}/{document.path}")
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    yield from _about(node, module, rng)


def sample_library_conversations(documents: Iterable[Document], count: int, seed: int) -> list[list[Message]]:
    """`count` of all those conversations (or all, where there are fewer), each as likely; memory holds only these."""
    kept: list[list[Message]] = []
    rng = random.Random(seed)
    for number, conversation in enumerate(library_conversations(documents, seed) if count else ()):
        if number < count:
            kept.append(conversation)
        elif (place := rng.randint(0, number)) < count:  # reservoir sampling (Vitter's algorithm R)
            kept[place] = conversation
    return kept


def module_name(path: str) -> str | None:
    """`json/decoder.py` -> `json.decoder`, `json/__init__.py` -> `json`; None for what is no importable module."""
    parts = PurePosixPath(path)
    names = parts.parts[:-1] if parts.name == "__init__.py" else (*parts.parts[:-1], parts.stem)
    is_module = parts.suffix == ".py" and names and all(name.isidentifier() for name in names)
    return ".".join(names) if is_module else None


def _parse(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in other people's strings are not our users' business
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _about(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, module: str, rng: random.Random
) -> Iterator[list[Message]]:
    summary = (ast.get_docstring(node) or "").split("\n\n", 1)[0].replace("\n", " ").strip()
    if node.name.startswith("_") or not summary:
        return
    names = {"kind": "class" if isinstance(node, ast.ClassDef) else "function", "name": node.name, "module": module}
    answers = [(_SUMMARY_QUESTIONS, summary), (_MODULE_QUESTIONS, "{name} is in the module {module}.".format(**names))]
    if not isinstance(node, ast.ClassDef):
        answers.append((_SIGNATURE_QUESTIONS, f"{node.name}({ast.unparse(node.args)})"))
    for questions, answer in answers:
        if len(answer) <= LONGEST_ANSWER:
            question = rng.choice(questions).format(**names)
            yield [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
