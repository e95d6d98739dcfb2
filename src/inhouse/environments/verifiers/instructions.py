"""The 25 instructions of IFEval that a program can check, each from its description in the paper (table 1).

A check gets the reply and what the row of the data says (`num_words`, `relation`, …), and tells whether it was
followed. Where the description leaves a choice, it is taken as in the published verdicts, and stands beside the check.
All of them go through a reply once: one of a million brackets, full stops or new lines takes no longer than another.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from inhouse.environments.verifiers.languages import language_of

_PHRASES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_WORD = re.compile(r"\w+")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|Inc|Ltd|Co|e\.g|i\.e|a\.m|p\.m|U\.S|Ph\.D|No)\.")
_SENTENCE_END = re.compile(r"(?<![.!?\u2026\u3002\u0964])[.!?\u2026\u3002\u0964]++[\"'\u201d\u2019)\]*]*+(?=\s|$)")


def _related(count: int, relation: str, number: int) -> bool:
    """`at least` includes the number, `less than` does not."""
    return count >= number if relation == "at least" else count < number


def _is_in(text: str, language: str) -> bool:
    """A text too short to tell counts as in the language asked for, as in the published verdicts."""
    return language_of(text) in (language, None)


def _paragraphs(parts: Sequence[str]) -> int:
    """How many of the parts between dividers hold text: none may be empty but the first and the last (then 0)."""
    if not all(part.strip() for part in parts[1:-1]):
        return 0
    return sum(bool(part.strip()) for part in parts)


def has_keywords(reply: str, keywords: Sequence[str]) -> bool:
    return all(word.lower() in reply.lower() for word in keywords)


def has_keyword_often(reply: str, keyword: str, frequency: int, relation: str) -> bool:
    return _related(reply.lower().count(keyword.strip().lower()), relation, frequency)


def has_no_forbidden_word(reply: str, forbidden_words: Sequence[str]) -> bool:
    """As whole words: `rocket` is no `rock`."""
    return not any(re.search(rf"\b{re.escape(word)}\b", reply, re.IGNORECASE) for word in forbidden_words)


def has_letter_often(reply: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    """Whatever its case; the letter may be a sign."""
    return _related(reply.lower().count(letter.lower()), let_relation, let_frequency)


def is_in_language(reply: str, language: str) -> bool:
    return _is_in(reply, language)


def has_sentences(reply: str, num_sentences: int, relation: str) -> bool:
    """A sentence ends with its mark before a space; lines without a mark belong to the next one."""
    text = _ABBREVIATION.sub(lambda match: match[0].replace(".", ""), reply.strip())
    ends = list(_SENTENCE_END.finditer(text))
    is_open = bool(_WORD.search(text[ends[-1].end() :] if ends else text))
    return _related(len(ends) + is_open, relation, num_sentences)


def has_paragraphs(reply: str, num_paragraphs: int) -> bool:
    return _paragraphs(re.split(r"\s?\*\*\*\s?", reply)) == num_paragraphs


def has_words(reply: str, num_words: int, relation: str) -> bool:
    """A word is a run of letters and digits: `don't` is two."""
    return _related(len(_WORD.findall(reply)), relation, num_words)


def begins_paragraph(reply: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Paragraphs are parted by two new lines; the first word without quotation marks before and signs behind it."""
    paragraphs = reply.split("\n\n")
    if sum(bool(each.strip()) for each in paragraphs) != num_paragraphs or nth_paragraph > len(paragraphs):
        return False
    words = paragraphs[nth_paragraph - 1].split()
    return bool(words) and re.split(r"[.,?!'\"]", words[0].lstrip("'\""))[0].lower() == first_word.lower()


def has_placeholders(reply: str, num_placeholders: int) -> bool:
    return re.findall(r"\[[^\]\n]*(\]?)", reply).count("]") >= num_placeholders


def has_postscript(reply: str, postscript_marker: str) -> bool:
    """`P.P.S` is also written `P. P. S.`; without its full stops it is none."""
    if postscript_marker in ("P.S.", "P.P.S"):
        letters = postscript_marker.replace(".", "")
        pattern = r"\.\s?".join(letters) + (r"\." if postscript_marker.endswith(".") else "")
    else:
        pattern = re.escape(postscript_marker)
    return re.search(pattern, reply, re.IGNORECASE) is not None


def has_bullets(reply: str, num_bullets: int) -> bool:
    """Lines that begin with `*`, but not with `**`, or with `-`."""
    return len(re.findall(r"^[^\S\n]*(?:\*[^*\n]|-)", reply, re.MULTILINE)) == num_bullets


def is_one_of_the_answers(reply: str) -> bool:
    """It holds one of the three phrases, whatever stands around it."""
    return any(phrase in reply for phrase in _PHRASES)


def has_highlights(reply: str, num_highlights: int) -> bool:
    """`*so*` or `**so**` on one line, with text inside."""
    double = re.findall(r"\*\*[^\n*]*\*\*", reply)
    single = re.findall(r"\*[^\n*]*\*", reply)
    return sum(bool(each.strip("*").strip()) for each in (*single, *double)) >= num_highlights


def has_sections(reply: str, section_spliter: str, num_sections: int) -> bool:
    """The name and a number, at least so often."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", reply)) >= num_sections


def is_json(reply: str) -> bool:
    """The whole reply, or all of one block of code."""
    text = reply.strip()
    if len(text) > 5 and text.startswith("```") and text.endswith("```"):
        text = re.sub(r"(?i)^json", "", text[3:-3])
    try:
        json.loads(text.strip())
    except (ValueError, RecursionError):
        return False
    return True


def has_title(reply: str) -> bool:
    """Text between `<<` and `>>` on one line."""
    spans = (line[line.find("<<") : line.rfind(">>") + 2] for line in reply.split("\n") if "<<" in line)
    return any(span.strip("<>").strip() for span in spans)


def has_two_responses(reply: str) -> bool:
    """Two that differ, on both sides of six asterisks."""
    parts = reply.split("******")
    texts = [part.strip() for part in parts if part.strip()]
    return _paragraphs(parts) == 2 and texts[0] != texts[1]


def repeats_prompt(reply: str, prompt_to_repeat: str) -> bool:
    return reply.strip().lower().startswith(prompt_to_repeat.strip().lower())


def ends_with(reply: str, end_phrase: str) -> bool:
    """Whatever the case, and within quotation marks too."""
    return reply.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def has_capital_words(reply: str, capital_frequency: int, capital_relation: str) -> bool:
    """Words of capitals alone, single letters among them: `WELL-KNOWN` is one, and `I` in `I'm`."""
    words = re.findall(r"\w+(?:[-.]\w+)*", reply)
    return _related(sum(word.isupper() for word in words), capital_relation, capital_frequency)


def is_capital_english(reply: str) -> bool:
    return reply.isupper() and _is_in(reply, "en")


def is_small_english(reply: str) -> bool:
    return reply.islower() and _is_in(reply, "en")


def has_no_comma(reply: str) -> bool:
    return "," not in reply


def is_quoted(reply: str) -> bool:
    text = reply.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


INSTRUCTIONS: dict[str, Callable[..., bool]] = {
    "keywords:existence": has_keywords,
    "keywords:frequency": has_keyword_often,
    "keywords:forbidden_words": has_no_forbidden_word,
    "keywords:letter_frequency": has_letter_often,
    "language:response_language": is_in_language,
    "length_constraints:number_sentences": has_sentences,
    "length_constraints:number_paragraphs": has_paragraphs,
    "length_constraints:number_words": has_words,
    "length_constraints:nth_paragraph_first_word": begins_paragraph,
    "detectable_content:number_placeholders": has_placeholders,
    "detectable_content:postscript": has_postscript,
    "detectable_format:number_bullet_lists": has_bullets,
    "detectable_format:constrained_response": is_one_of_the_answers,
    "detectable_format:number_highlighted_sections": has_highlights,
    "detectable_format:multiple_sections": has_sections,
    "detectable_format:json_format": is_json,
    "detectable_format:title": has_title,
    "combination:two_responses": has_two_responses,
    "combination:repeat_prompt": repeats_prompt,
    "startend:end_checker": ends_with,
    "change_case:capital_word_frequency": has_capital_words,
    "change_case:english_capital": is_capital_english,
    "change_case:english_lowercase": is_small_english,
    "punctuation:no_comma": has_no_comma,
    "startend:quotation": is_quoted,
}


def is_followed(kind: str, given: dict[str, Any], reply: str) -> bool:
    """Whether a reply follows an instruction; an empty one follows none. Raises `ValueError` for an unknown kind."""
    if kind not in INSTRUCTIONS:
        raise ValueError(f'there is no instruction "{kind}"; there are {", ".join(INSTRUCTIONS)}')
    return bool(reply.strip()) and INSTRUCTIONS[kind](reply, **given)
