"""Verifiable instructions, made by code: write on a topic and obey `level` rules that a program can check.

The kind of task of IFEval (Zhou et al. 2023, arXiv 2311.07911), with its checks and with prompts of our own: no prompt
of the published test is in it. Each problem has a reply that obeys all its rules: sentences on the topic, changed by
one rule after another, and checked.
"""

import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from inhouse.environments.environment import Dial, Grade, Problem, without_thoughts
from inhouse.environments.verifiers import ifeval
from inhouse.environments.verifiers.instructions import is_followed

_TOPICS = (
    "a lighthouse", "the olive harvest", "repairing a bicycle", "a night train", "learning the violin", "beekeeping",
    "the first snow", "an old map", "a small bakery", "a chess club", "moving to another city", "a lost umbrella",
    "the market square", "growing tomatoes", "a library at night", "crossing a desert", "a broken clock", "a power cut",
    "the smell of rain", "a school play", "sharing a kitchen", "a walk along the river", "restoring a boat", "a lake",
)  # fmt: skip
_TEMPLATES = (
    "Write a short text about {topic}. {rules}",
    "Please write a few lines about {topic}. {rules}",
    "{topic}: write something short about it. {rules}",
)
_SENTENCES = (
    "There is more to say about {topic} than most people think",
    "My grandmother used to talk about {topic} on long evenings",
    "It takes time to see what makes {topic} worth a story",
    "Some of it is work and some of it is luck",
    "The best part is what happens when nobody is in a hurry",
    "You learn to look twice and to wait a little longer",
    "In the end it is the small things that stay with you",
    "We went back the next day and found that all had changed",
    "That is how it began for me and for many others",
    "I would do it again with the same people",
)
_KEYWORDS = (
    "copper",
    "lantern",
    "maple",
    "orbit",
    "pepper",
    "quartz",
    "ribbon",
    "saddle",
    "timber",
    "velvet",
    "willow",
)
_ENDINGS = ("That is all I know.", "Ask me again tomorrow.", "And so it goes on.", "Nothing more needs to be said.")
_FORBIDDEN = ("very", "nice", "good", "beautiful", "amazing", "suddenly", "really")


class _Rule(NamedTuple):
    """An instruction: which check, how it is asked for with `given`, how a text is made to obey it.

    Rules of one `group` exclude each other; a text is changed by a lower `turn` first.
    """

    kind: str
    group: str
    turn: int
    given: Callable[[random.Random], dict[str, Any]]
    ask: Callable[[dict[str, Any]], str]
    obey: Callable[[str, dict[str, Any]], str]


def _as_it_is(text: str, given: dict[str, Any]) -> str:
    return text


def _nothing(rng: random.Random) -> dict[str, Any]:
    return {}


def _longer(text: str, num_words: int) -> str:
    while len(text.split()) < num_words:
        text = f"{text} {text}"
    return text


def _shorter(text: str, num_words: int) -> str:
    """Whole sentences, as many as have fewer words."""
    kept = ""
    for sentence in text.split(". "):
        longer = f"{kept} {sentence.rstrip('.')}.".strip()
        if len(longer.split()) >= num_words and kept:
            break
        kept = longer
    return kept


def _bulleted(text: str, count: int) -> str:
    lines = [f"{sentence.rstrip('.')}." for sentence in text.split(". ")]
    while len(lines) < count:
        lines += lines
    return "\n".join(f"* {line}" for line in lines[:count])


def _paragraphs(text: str, count: int) -> str:
    lines = [f"{sentence.rstrip('.')}." for sentence in text.split(". ")]
    while len(lines) < count:
        lines += lines
    return "\n***\n".join([*lines[: count - 1], " ".join(lines[count - 1 :])])


_RULES = (
    _Rule(
        "length_constraints:number_words", "length", 0,
        lambda rng: {"num_words": rng.choice((30, 40, 50, 60, 80)), "relation": "at least"},
        lambda given: f"Use at least {given['num_words']} words.",
        lambda text, given: _longer(text, given["num_words"]),
    ),
    _Rule(
        "length_constraints:number_words", "length", 0,
        lambda rng: {"num_words": rng.choice((25, 35, 45)), "relation": "less than"},
        lambda given: f"Use fewer than {given['num_words']} words.",
        lambda text, given: _shorter(text, given["num_words"] - 12),
    ),
    _Rule(
        "detectable_format:number_bullet_lists", "form", 1,
        lambda rng: {"num_bullets": rng.randint(2, 5)},
        lambda given: f"Make it a list of exactly {given['num_bullets']} bullet points, each beginning with *.",
        lambda text, given: _bulleted(text, given["num_bullets"]),
    ),
    _Rule(
        "length_constraints:number_paragraphs", "form", 1,
        lambda rng: {"num_paragraphs": rng.randint(2, 4)},
        lambda given: f"Write {given['num_paragraphs']} paragraphs, parted by the divider ***",
        lambda text, given: _paragraphs(text, given["num_paragraphs"]),
    ),
    _Rule(
        "keywords:existence", "words", 2,
        lambda rng: {"keywords": rng.sample(_KEYWORDS, 2)},
        lambda given: f"Include the words {' and '.join(given['keywords'])}.",
        lambda text, given: f"{text} It was {' and '.join(given['keywords'])}.",
    ),
    _Rule(
        "keywords:frequency", "words", 2,
        lambda rng: {"keyword": rng.choice(_KEYWORDS), "frequency": rng.randint(2, 4), "relation": "at least"},
        lambda given: f"The word {given['keyword']} must come at least {given['frequency']} times.",
        lambda text, given: f"{text} It was {' '.join([given['keyword']] * given['frequency'])}.",
    ),
    _Rule(
        "keywords:forbidden_words", "forbidden", 2,
        lambda rng: {"forbidden_words": rng.sample(_FORBIDDEN, 2)},
        lambda given: f"Do not use the words {' and '.join(given['forbidden_words'])}.",
        _as_it_is,
    ),
    _Rule(
        "detectable_content:number_placeholders", "places", 2,
        lambda rng: {"num_placeholders": rng.randint(1, 3)},
        lambda given: f"Have at least {given['num_placeholders']} placeholders in square brackets, such as [name].",
        lambda text, given: f"{text} Write to {' '.join(['[name]', '[place]', '[day]'][: given['num_placeholders']])}.",
    ),
    _Rule(
        "detectable_format:number_highlighted_sections", "highlights", 2,
        lambda rng: {"num_highlights": rng.randint(1, 3)},
        lambda given: f"Highlight at least {given['num_highlights']} parts with asterisks, *like this*.",
        lambda text, given: f"{text} Think of {' '.join(['*this*', '*that*', '*both*'][: given['num_highlights']])}.",
    ),
    _Rule(
        "startend:end_checker", "end", 3,
        lambda rng: {"end_phrase": rng.choice(_ENDINGS)},
        lambda given: f'End with exactly these words: "{given["end_phrase"]}" Nothing may follow them.',
        lambda text, given: f"{text} {given['end_phrase']}",
    ),
    _Rule(
        "detectable_content:postscript", "end", 3,
        lambda rng: {"postscript_marker": "P.S."},
        lambda given: "Add a postscript that begins with P.S.",
        lambda text, given: f"{text}\n\nP.S. I will write again.",
    ),
    _Rule(
        "change_case:english_lowercase", "case", 4, _nothing,
        lambda given: "Write in lower case letters only, without any capital.",
        lambda text, given: text.lower(),
    ),
    _Rule(
        "change_case:english_capital", "case", 4, _nothing,
        lambda given: "Write in capital letters only.",
        lambda text, given: text.upper(),
    ),
    _Rule("punctuation:no_comma", "commas", 4, _nothing, lambda given: "Use no commas.", _as_it_is),
    _Rule(
        "detectable_format:title", "title", 5, _nothing,
        lambda given: "Give it a title in double angular brackets, such as <<title>>.",
        lambda text, given: f"<<{text.split('.')[0][:24].strip('* <>').strip()}>>\n{text}",
    ),
    _Rule(
        "startend:quotation", "quotation", 6, _nothing,
        lambda given: "Put your whole reply in double quotation marks.",
        lambda text, given: f'"{text}"',
    ),
)  # fmt: skip


def _instructions(rng: random.Random, level: int) -> tuple[str, Problem]:
    """Drawn anew until the reply that is made for the rules obeys them all."""
    while True:
        topic = rng.choice(_TOPICS)
        rules = _drawn(rng, level)
        given = [rule.given(rng) for rule in rules]
        reply = _reply(rng, topic, list(zip(rules, given, strict=True)))
        if all(is_followed(rule.kind, each, reply) for rule, each in zip(rules, given, strict=True)):
            break
    asked = " ".join(rule.ask(each) for rule, each in zip(rules, given, strict=True))
    prompt = rng.choice(_TEMPLATES).format(topic=topic, rules=asked)
    answer = json.dumps([[rule.kind, each] for rule, each in zip(rules, given, strict=True)])
    return f"{topic}: {answer}", Problem(prompt[0].upper() + prompt[1:], reply, answer)


def _drawn(rng: random.Random, count: int) -> list[_Rule]:
    """Rules that do not exclude each other, in an order of their own."""
    rules: list[_Rule] = []
    while len(rules) < count:
        rule = rng.choice(_RULES)
        if rule.group not in {each.group for each in rules}:
            rules.append(rule)
    return rules


def _reply(rng: random.Random, topic: str, rules: list[tuple[_Rule, dict[str, Any]]]) -> str:
    first, *others = _SENTENCES
    text = ". ".join([first, *rng.sample(others, rng.randint(2, 3))]).format(topic=topic) + "."
    for rule, given in sorted(rules, key=lambda each: each[0].turn):
        text = rule.obey(text, given)
    return text


def strict(problem: Problem, reply: str) -> Grade:
    """The share of the rules that the reply obeys, its thinking left out."""
    return ifeval.strict(problem, without_thoughts(reply).strip())


def loose(problem: Problem, reply: str) -> Grade:
    return ifeval.loose(problem, without_thoughts(reply).strip())


INSTRUCTIONS = Dial("instructions", 5, _instructions, strict, loose)
