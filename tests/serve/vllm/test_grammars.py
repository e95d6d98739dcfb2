"""One text for vLLM accepts what our list of grammars accepts."""

import pytest

from inhouse.engine.engine import ends_of
from inhouse.engine.grammar import Grammars, choice, grammar, json_schema, lark, regex
from inhouse.serve.structured import _THINKING
from inhouse.serve.vllm.grammars import as_lark

NUMBER = json_schema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
MINE = lark('start: "@number" | x // a } in a comment\nx: /}b@number/')
CALLS = lark('start: calls | @mine\ncalls: "<@mine>" @number "}"')
CASES = {
    "json": (grammar(NUMBER), ['{"n": 1}', '{"n": "a"}', "{"]),
    "regex": (grammar(regex(r"a{2}@x\}")), ["aa@x}", "aa"]),
    "choice": (grammar(choice(['a"', "b\\", "@x"])), ['a"', "b\\", "@x", "c"]),
    "named": (
        grammar(CALLS, number=NUMBER, mine=MINE),
        ['<@mine>{"n": 1}}', "@number", "}b@number", "<@mine>@number}"],
    ),
    "thinking": (
        grammar(lark(_THINKING), answer=CALLS, number=NUMBER, mine=MINE),
        ["hm</think>@number", 'a</think>\n<@mine>{"n": 1}}', "@number", "a</think>a"],
    ),
}


@pytest.mark.parametrize(("ours", "texts"), CASES.values(), ids=CASES.keys())
def test_the_same_texts_are_accepted(tokenizer, ours, texts):
    grammars = Grammars(tokenizer, tokenizer.vocab_size, ends_of(tokenizer))
    theirs = grammar(lark(as_lark(ours)))
    found = [
        (is_accepted(grammars, ours, tokenizer, text), is_accepted(grammars, theirs, tokenizer, text)) for text in texts
    ]
    assert all(a == b for a, b in found), found
    assert {a for a, _ in found} == {True, False}


def is_accepted(grammars, text, tokenizer, answer) -> bool:
    """Whether the whole answer may come and may end there."""
    matcher = grammars.matcher(text)
    for token in [*tokenizer.encode(answer), tokenizer.end_of_document]:
        bits = matcher.mask().bits
        if bits.size == 0 or not bits[token // 32] >> token % 32 & 1:
            return False
        if matcher.take(token):
            return token == tokenizer.end_of_document or token == tokenizer.encode(answer)[-1]
    return True
