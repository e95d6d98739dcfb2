"""The code in a reply: a chat model puts it into a fenced block, a base model goes on where its prompt ended."""

import re

# what is taken for the line of a fence is never given back (`+`): a reply of a million backticks is read once
_FENCED = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)[ \t]*+(\w*+)[^\n]*+\n(.*?)(?:^[ \t]*\1|\Z)", re.DOTALL | re.MULTILINE)
# Chen et al. 2021, section 3.1: a function's body has ended where one of these begins a line
_STOPS = re.compile(r"\n(?=class |def |#|if |print|@|```)")


def code_of(reply: str, name: str) -> str:
    """The block that defines `name`: the last such one, else the last block of Python, else the reply as it is.

    A block that is never closed goes on to the reply's end. A reply that begins with an indented line goes on where a
    prompt ended: what is fenced behind it, or follows a fence that closes the prompt's, is no part of the function.
    """
    blocks = [(language.lower(), text) for _, language, text in _FENCED.findall(reply)]
    python = [text for language, text in blocks if language in ("python", "py", "python3", "")]
    defining = [text for text in python if defines(text, name)]
    if not defining and re.match(r"\s*?^[ \t]+[^\s`~]", reply, re.MULTILINE):
        return reply
    return (defining or python or [reply])[-1]


def defines(code: str, name: str) -> bool:
    """Whether a line of the code, at its left edge, defines the function."""
    return (
        re.search(rf"^(?:async )?def {re.escape(name)}\b|^{re.escape(name)}\s*=(?!=)", code, re.MULTILINE) is not None
    )


def body_of(completion: str) -> str:
    """A completion up to where the function that it goes on with has ended."""
    return _STOPS.split(completion, maxsplit=1)[0]
