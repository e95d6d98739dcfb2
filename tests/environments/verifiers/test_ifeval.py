"""The 25 instructions, each with replies that follow it and replies that do not; strict, loose and the four figures."""

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.verifiers.ifeval import IFEVAL, Accuracies, accuracies, followed, ifeval_problem
from inhouse.environments.verifiers.instructions import INSTRUCTIONS, is_followed

ENGLISH = "this is a text of the kind that is in english, and it has all the words that it needs"
CASES = {  # what is given; replies that follow; replies that do not
    "keywords:existence": ({"keywords": ["mom", "Mother"]}, ["Mom is a mother"], ["Mom", "moth er mom"]),
    "keywords:frequency": ({"keyword": "war", "frequency": 2, "relation": "at least"}, ["War, wars"], ["war"]),
    "keywords:forbidden_words": ({"forbidden_words": ["rock"]}, ["a rocket"], ["Rock!", "on the rock"]),
    "keywords:letter_frequency": ({"letter": "t", "let_frequency": 2, "let_relation": "less than"}, ["a T"], ["tT"]),
    "language:response_language": (
        {"language": "de"},
        ["Das ist ein Text, und er ist auf Deutsch.", "12 + 3"],
        ["This is a text and it is in English.", "Это текст, и он на русском языке."],
    ),
    "length_constraints:number_sentences": (
        {"num_sentences": 3, "relation": "less than"},
        ["One. Two!", "Dr. Who came at 3.5 p.m. today", "A title\nand one sentence."],
        ["One. Two? Three", "A. B. C."],
    ),
    "length_constraints:number_paragraphs": (
        {"num_paragraphs": 2},
        ["One\n***\nTwo", "***\nOne\n\nstill\n***\nTwo\n***"],
        ["One\n\nTwo", "One\n***\n\n***\nTwo", "a ***b*** c"],
    ),
    "length_constraints:number_words": (
        {"num_words": 4, "relation": "at least"},
        ["one two three four", "I don't know"],
        ["one two three", "- - - -"],
    ),
    "length_constraints:nth_paragraph_first_word": (
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weekend"},
        ['One\n\n"weekend, at last', "One\nline\n\nWeekend"],
        ["Weekend\n\nOne", "One\n\nWeekend\n\nThree", "One", "One\n\nWeekends"],
    ),
    "detectable_content:number_placeholders": ({"num_placeholders": 2}, ["[a] and [b c]"], ["[a]", "(a) (b)"]),
    "detectable_content:postscript": (
        {"postscript_marker": "P.P.S"},
        ["Bye\nP.P.S. more", "p. p. s more"],
        ["P.S. more", "PPS more"],
    ),
    "detectable_format:number_bullet_lists": (
        {"num_bullets": 2},
        ["* a\n* b", "- a\n  - b", "text\n* a\n- b\n**bold** c"],
        ["* a", "* a\n* b\n* c", "1. a\n2. b"],
    ),
    "detectable_format:constrained_response": (
        {},
        ["My answer is maybe.", "Well. My answer is no. Sorry."],
        ["My answer is yes", "Yes.", "my answer is no."],
    ),
    "detectable_format:number_highlighted_sections": (
        {"num_highlights": 2},
        ["*a* and *b c*", "**a** *b*"],
        ["*a*", "* a\n* b", "** ** **"],
    ),
    "detectable_format:multiple_sections": (
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb", "SECTION1 SECTION2 SECTION3"],
        ["SECTION 1\na", "Section 1 Section 2", "SECTION one SECTION two"],
    ),
    "detectable_format:json_format": (
        {},
        ['{"a": [1]}', '```json\n{"a": 1}\n```', '```\n["a"]\n```'],
        ["{'a': 1}", 'Sure: {"a": 1}', '```json\n{"a": 1}\n``` there'],
    ),
    "detectable_format:title": ({}, ["<<A title>>\ntext"], ["<A title>", "<< >>", "<<A\ntitle>>"]),
    "combination:two_responses": (
        {},
        ["a******b", "a\n******\nb\n******"],
        ["a******a", "a******b******c", "a\n***\nb", "a"],
    ),
    "combination:repeat_prompt": ({"prompt_to_repeat": "Write a Poem."}, [" write a poem. A"], ["A. Write a Poem."]),
    "startend:end_checker": ({"end_phrase": "Is it so?"}, ['"Well. is it so?"', "Is it so?\n"], ["Is it so? Y", "so?"]),
    "change_case:capital_word_frequency": (
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["NO, NO", "I'm A", "IBM's US"],
        ["NO, no", "No No", "SO-SO"],
    ),
    "change_case:english_capital": ({}, [ENGLISH.upper()], [ENGLISH, "DAS IST EIN TEXT, UND ER IST NICHT ENGLISCH"]),
    "change_case:english_lowercase": ({}, [ENGLISH], [ENGLISH.title(), "das ist ein text, und er ist nicht englisch"]),
    "punctuation:no_comma": ({}, ["one and two; three"], ["one, two"]),
    "startend:quotation": ({}, ['"all of it"', ' "a" and "b"\n'], ['"half', "'single'", '"', "\u201cround\u201d"]),
}  # fmt: skip


def test_every_instruction_has_its_cases():
    assert CASES.keys() == INSTRUCTIONS.keys()
    assert len(INSTRUCTIONS) == 25


@pytest.mark.parametrize("kind", CASES)
def test_an_instruction_is_followed_or_not(kind):
    given, right, wrong = CASES[kind]
    assert [reply for reply in right if not is_followed(kind, given, reply)] == []
    assert [reply for reply in (*wrong, "", " \n") if is_followed(kind, given, reply)] == []


def test_relations_include_the_number_or_not():
    words = "length_constraints:number_words"
    assert is_followed(words, {"num_words": 2, "relation": "at least"}, "one two")
    assert not is_followed(words, {"num_words": 2, "relation": "less than"}, "one two")
    assert is_followed(words, {"num_words": 2, "relation": "less than"}, "one")


def problem(*kinds: str):
    return ifeval_problem(
        {
            "prompt": "Do it.",
            "instruction_id_list": kinds,
            "kwargs": [{**CASES[kind][0], "other": None} for kind in kinds],
        }
    )


@pytest.mark.parametrize(
    ("reply", "strict", "loose"),
    [
        ('"all"', True, True),
        ('**"all"**', False, True),  # without its asterisks
        ('Sure!\n"all"', False, True),  # without its first line
        ('"all"\nDone.', False, True),  # without its last
        ('Sure!\n*"all"*\nDone.', False, True),  # without both, and without asterisks
        ('Sure! "all"', False, False),
        ("", False, False),
    ],
)
def test_loose_forgives_a_line_before_and_behind_and_asterisks(reply, strict, loose):
    assert followed(problem("startend:quotation"), reply) == ([strict], [loose])


def test_a_grade_is_the_share_of_instructions_and_says_which_were_not_followed():
    two = problem("startend:quotation", "punctuation:no_comma")
    assert IFEVAL.score(two, '"well"') == Grade(1, True)
    assert IFEVAL.score(two, "well") == Grade(0.5, True, "not followed: startend:quotation")
    assert IFEVAL.lenient(two, 'Well:\n"well"') == Grade(1, True)


def test_the_four_figures():
    two, one = problem("startend:quotation", "punctuation:no_comma"), problem("punctuation:no_comma")
    replies = [followed(two, '*"well"*'), followed(one, "a, b")]
    assert accuracies(replies) == Accuracies(0, 1 / 3, 1 / 2, 2 / 3)
    with pytest.raises(ValueError, match="no reply"):
        accuracies([])


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match='there is no instruction "keywords:rhyme"; there are keywords:existence'):
        ifeval_problem({"prompt": "?", "instruction_id_list": ["keywords:rhyme"], "kwargs": [{}]})
    with pytest.raises(ValueError, match="1 instructions, but 0 descriptions"):
        ifeval_problem({"prompt": "?", "instruction_id_list": ["punctuation:no_comma"], "kwargs": []})


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("length_constraints:number_sentences", "." * 200_000 + "a"),
        ("detectable_content:number_placeholders", "[" * 200_000),
        ("detectable_format:number_bullet_lists", "\n" * 200_000 + "x"),
        ("detectable_format:json_format", "```x" + " " * 200_000 + "y```"),
        ("detectable_format:title", "<" * 200_000),
    ],
)
def test_a_long_reply_of_one_sign_is_read_once(kind, reply):
    assert not is_followed(kind, CASES[kind][0] | ({"relation": "at least"} if "sentences" in kind else {}), reply)


def test_what_is_given_must_be_what_the_check_takes():
    row = {"prompt": "?", "instruction_id_list": ["length_constraints:number_words"]}
    for given, said in (
        ({"num_words": 3}, "missing 1 required positional argument: 'relation'"),
        ({"num_words": "3", "relation": "at least"}, "not supported between"),
        ({"num_words": 3, "relation": "at most"}, 'the relation is "at most"; it is "at least" or "less than"'),
    ):
        with pytest.raises(ValueError, match=said):
            ifeval_problem(row | {"kwargs": [given]})
