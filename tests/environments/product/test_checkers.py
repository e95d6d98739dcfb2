"""Checkers: replies that are right in other words, nearly right, wrong, and made to fool them."""

import json
from typing import Any

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.product.registry import SUITES
from inhouse.environments.product.suite import documents


def item(name: str, level: int = 4, number: int = 0) -> tuple[dict[str, Any], str]:
    """What is expected, and a right reply."""
    made = [each for each in documents(SUITES[name], 32) if each["level"] == level][number]
    return made["expected"], SUITES[name].solve(made["expected"])


def check(name: str, expected: dict[str, Any], reply: str) -> Grade:
    return SUITES[name].check(expected, reply)


# --- chat


def test_chat_one_value_that_was_corrected_costs_its_share() -> None:
    expected, right = item("chat")
    name, value = expected["lines"][0]
    verdict = check("chat", expected, right.replace(value.upper(), "WRONG", 1))
    assert verdict.score == pytest.approx(1 - 1 / len(expected["lines"]))
    assert name in verdict.why


def test_chat_form_costs_something_and_stuffing_gains_nothing() -> None:
    expected, right = item("chat")
    assert 0.6 <= check("chat", expected, right.lower()).score < 1
    assert check("chat", expected, f"Here you are:\n{right}").score < 1
    swapped = "\n".join(reversed(right.splitlines()))
    assert 0.6 <= check("chat", expected, swapped).score < 1
    stuffed = "\n".join(f"{name.upper()}: WRONG" for name, _ in expected["lines"]) + "\n" + right
    assert check("chat", expected, stuffed).score == 0  # of two lines for one thing the first counts


# --- maths


@pytest.mark.parametrize(
    ("values", "reply", "score"),
    [
        (["3/4"], "So.\n**Answer:** 0.75", 1.0),
        (["3/4"], "Answer: \\frac{3}{4}", 1.0),
        (["3/4"], "Answer: 6/8", 1.0),
        (["1200"], "Answer: 1,200 lamps", 0.0),  # what follows is not the number alone
        (["1200"], "Answer: $1,200$", 1.0),
        (["1200"], "answer: \\boxed{1200}", 1.0),
        (["1200"], "Answer: 1200\nAnswer: 5", 0.0),  # the last one counts
        (["1200"], "It is 1200.", 0.0),
        (["1200"], "Answer: 1199, 1200", 0.0),
        (["1200"], "Answer: 1200/0", 0.0),
        (["1200"], "Answer: " + "9" * 100_000, 0.0),
        (["7", "9"], "Answer: 7, 9", 1.0),
        (["7", "9"], "Answer: 7 and 9", 1.0),
        (["7", "9"], "Answer: 7, 8", 0.5),
        (["7", "9"], "Answer: 9, 7", 0.0),
        (["7", "9"], "Answer: 7", 0.0),
        (["120", "950"], "Answer: 120,950", 1.0),  # with a comma between, as was asked
        (["7", "9"], "\n" * 200_000, 0.0),
        (["7", "9"], "Answer: 7" + " " * 200_000 + "x", 0.0),
        (["7", "9"], "Answer: 7, 9, 11", 0.0),
    ],
)
def test_maths(values: list[str], reply: str, score: float) -> None:
    assert check("maths", {"values": values}, reply).score == score


# --- code


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("```\n0 1\n2 3\n4 5\n```", 1.0),
        ("0 1\n2 3\n4 5", 1.0),
        ("```text\n0 1\n2 3\n4 6\n```", 2 / 3),
        ("0 1\n2 3", 2 / 3),
        ("0 1\n2 3\n4 5\n4 5\n4 5\n4 5", 0.5),  # more lines than there are
        ("4 5\n0 1\n2 3", 0.0),
        ("0 1 2 3 4 5", 0.0),
    ],
)
def test_code(reply: str, score: float) -> None:
    verdict = check("code", {"lines": ["0 1", "2 3", "4 5"]}, reply)
    assert verdict.score == pytest.approx(score)


# --- programs

DOUBLE = {"name": "double", "cases": [[[n], 2 * n] for n in range(8)], "source": ""}


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Here:\n```python\ndef double(x):\n    return x + x\n```\nDone.", 1.0),
        ("double = lambda x: x * 2", 1.0),
        ("```python\ndef double(x):\n    return min(2 * x, 7)\n```", 0.5),
        ("```python\ndef double(x):\n    return [0, 2, 4][x]\n```", 3 / 8),
        ("```python\ndef double(x):\n    return 14\n```", 0.0),  # right once, by luck
        ("```python\ndef double(x):\n    return 2 * x +\n```", 0.0),
        ("```python\ndef twice(x):\n    return 2 * x\n```", 0.0),
        ("```python\nimport os\ndef double(x):\n    os._exit(0)\n```", 0.0),
        ("```python\nclass E(int):\n    __eq__ = lambda a, b: True\ndef double(x):\n    return E(99)\n```", 0.0),
        ("```python\ndef double(x):\n    raise AssertionError('8 of 8')\n```", 0.0),
    ],
)
def test_programs(reply: str, score: float) -> None:
    assert check("programs", DOUBLE, reply).score == score


# --- sheets


def test_sheets_formulas_are_tried_on_tables_that_nobody_saw() -> None:
    expected, right = item("sheets", 1)
    value = expected["values"][0]
    assert check("sheets", expected, f"```excel\n{right}\n```").score == 1
    assert check("sheets", expected, f"={value}").score == 0
    assert check("sheets", expected, f"=IF(C2={expected['tables'][0][0][2]},{value},0)").score == 0
    assert check("sheets", expected, str(value)).score == 0
    assert "not" in check("sheets", expected, "=SUM(C2:C3)").why


def test_sheets_a_formula_that_is_right_on_most_tables_gets_most() -> None:
    """More than 60 units or 60 and more: the same on all tables but the one that has 60."""
    rows = [["North", f"p{n}", units, 1.0] for n, units in enumerate((60, 70, 50))]
    others = [["North", f"p{n}", units, 1.0] for n, units in enumerate((61, 70, 80))]
    expected = {"tables": [rows, *[others] * 4], "values": [1, 3, 3, 3, 3], "formula": '=COUNTIF(C2:C4,">60")'}
    assert check("sheets", expected, '=COUNTIF(C2:C4,">60")').score == 1
    assert check("sheets", expected, '=COUNTIF(C2:C4,">=60")').score == 0.8
    assert check("sheets", expected, "=3").score == check("sheets", expected, "=3+0*C2").score == 0


@pytest.mark.parametrize(
    "reply",
    [
        "=SUM(C2:C99999999)", "=" + "(" * 900, "=1" + "+1" * 600, "=9^9^9^9^9", "=A1:ZZ9999", "=INDEX(A1:A3,9E999)",
        "=INT(9E999)", "=ROUND(9E999)", "=AVERAGE(9E999,-9E999)", "=SUM(A1:A5000&A1:ZZ1)",
        f'=COUNTIF("{"a" * 400}","{"*a" * 200}b")',
    ],
)  # fmt: skip
def test_sheets_formulas_that_would_hang_do_not(reply: str) -> None:
    assert check("sheets", item("sheets")[0], reply).score == 0


# --- slides


def deck(right: str) -> list[dict[str, Any]]:
    return json.loads(right)["slides"]


def test_slides_a_wrong_figure_a_wrong_order_and_a_strange_number_cost() -> None:
    expected, right = item("slides")
    slides = deck(right)
    slides[1]["bullets"][0] = "Pieces 1"
    wrong = check("slides", expected, json.dumps({"slides": slides}))
    assert 0.5 < wrong.score < 1
    assert expected["sections"][0][0] in wrong.why
    assert "a number that nobody gave" in wrong.why
    swapped = deck(right)
    swapped[1], swapped[2] = swapped[2], swapped[1]
    assert "order" in check("slides", expected, json.dumps({"slides": swapped})).why


def test_slides_all_facts_on_one_slide_are_no_deck() -> None:
    expected, right = item("slides")
    everything = [bullet for slide in deck(right) for bullet in slide["bullets"]]
    one = {"title": " ".join(name for name, _, _ in expected["sections"]), "bullets": everything}
    assert check("slides", expected, json.dumps({"slides": [one]})).score < 0.6
    assert check("slides", expected, json.dumps({"slides": [one] * 8})).score < 0.25
    assert check("slides", expected, json.dumps({"slides": [{"title": "A", "bullets": []}] * 8})).score == 0
    assert check("slides", expected, json.dumps({"slides": [1, None]})).score == 0
    assert check("slides", expected, right[:-10]).score == 0


# --- summaries


def test_summaries_what_was_corrected_spoils_its_fact_even_beside_the_right_one() -> None:
    expected, right = item("summaries")
    fact = expected["facts"][0]
    both = right.replace(fact["has"], f"{fact['has']} (first {fact['not']})", 1)
    verdict = check("summaries", expected, both)
    assert verdict.score == pytest.approx(1 - 1 / len(expected["facts"]))
    assert fact["name"] in verdict.why
    assert check("summaries", expected, expected["report"]).score < 0.35


@pytest.mark.parametrize("reply", ["1" * 200_000 + "a" * 200_000 + "1", "1." + "1" * 200_000 + "a1"])
def test_summaries_a_number_that_goes_on_is_read_once(reply: str) -> None:
    assert check("summaries", item("summaries")[0], reply).score == 0


def test_summaries_form_counts() -> None:
    expected, right = item("summaries")
    assert check("summaries", expected, right + " word" * 90).score == pytest.approx(0.9)
    assert check("summaries", expected, right + "\n\nThat is all.").score == pytest.approx(0.9)
    assert check("summaries", expected, right + " Perhaps 5 more.").score == pytest.approx(0.9)
    assert check("summaries", expected, right.replace(",", "")).score == 1  # 18843 is 18,843


# --- extraction


def test_extraction_is_f1_over_fields() -> None:
    expected, right = item("extraction")
    orders = json.loads(right)
    assert check("extraction", expected, f"```json\n{json.dumps(list(reversed(orders)))}\n```").score == 1
    orders[0]["quantity"] += 1
    fields = 6 * len(orders)
    verdict = check("extraction", expected, json.dumps(orders))
    assert verdict.score == pytest.approx((fields - 1) / fields)
    assert "quantity" in verdict.why
    assert check("extraction", expected, json.dumps(orders[:1])).score == pytest.approx(2 * 5 / (6 + fields))


def test_extraction_orders_that_are_none_and_doubles_cost() -> None:
    expected, right = item("extraction")
    orders = json.loads(right)
    strange = [{**orders[0], "number": f"X-{n}"} for n in range(len(orders))]
    assert check("extraction", expected, json.dumps(orders + strange)).score == pytest.approx(2 / 3)
    assert check("extraction", expected, json.dumps(orders * 3)).score == pytest.approx(0.5)
    assert check("extraction", expected, json.dumps({"orders": orders})).score == 0
    assert check("extraction", expected, json.dumps([{**o, "quantity": str(o["quantity"])} for o in orders])).score < 1
    assert check("extraction", expected, "[" * 100_000).score == 0
    huge = check("extraction", expected, json.dumps([{**orders[0], "total": 10**400}]))
    assert "total is not" in huge.why
    assert len(check("extraction", expected, "[" + "{}, " * 10_000 + "{}]").why) == 2_000


# --- tool use

ORDER = ["order", {"product": "mugs", "city": "Lyon", "quantity": 24}]
STOCK = ["get_stock", {"product": "tents", "city": "Cork"}]


def said(*calls: list[Any]) -> str:
    return "".join(f"<tool_call>{json.dumps({'name': n, 'arguments': a})}</tool_call>" for n, a in calls)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        (said(ORDER, STOCK), 1.0),
        ("I look.\n" + said(STOCK, ORDER), 1.0),
        (said(["order", {**ORDER[1], "city": "lyon."}], STOCK), 1.0),
        (said(["order", {**ORDER[1], "quantity": 2}], STOCK), (0.75 + 1) / 2),
        (said(["order", {**ORDER[1], "quantity": "24"}], STOCK), (0.75 + 1) / 2),
        (said(["order", {**ORDER[1], "colour": "red"}], STOCK), (0.25 + 0.75 * 3 / 4 + 1) / 2),
        (said(ORDER), 0.5),
        (said(ORDER, ORDER), 0.5),
        (said(ORDER, STOCK, STOCK, STOCK), 0.5),
        (said(["orders", ORDER[1]]), 0.0),
        ("I ordered 24 mugs for Lyon.", 0.0),
        ('<tool_call>{"name": "order"</tool_call>' + said(STOCK), 0.5),
        ("<tool_call>[]</tool_call><tool_call>7</tool_call>", 0.0),
    ],
)
def test_tool_use_calls_are_matched_and_strange_ones_cost(reply: str, score: float) -> None:
    assert check("tool_use", {"calls": [ORDER, STOCK], "says": []}, reply).score == pytest.approx(score)


def test_tool_use_a_right_call_is_not_taken_for_the_one_that_is_missing() -> None:
    tents = ["order", {"product": "tents", "city": "Cork", "quantity": 7}]
    expected = {"calls": [ORDER, tents], "says": []}
    assert check("tool_use", expected, said(tents)).score == 0.5
    assert check("tool_use", expected, f"<think>{said(ORDER)}</think>{said(tents)}").score == 0.5


def test_tool_use_where_nothing_can_be_called() -> None:
    missing = {"calls": [], "says": ["?"]}
    assert check("tool_use", missing, "How many do you need?").score == 1
    assert check("tool_use", missing, "I have ordered them.").score == 0
    assert check("tool_use", missing, "How many? " + said(ORDER)).score == 0
    known = {"calls": [], "says": ["310"]}
    for reply in ("310 in all.", "**310**, for 200 and 110 are 310", "It is 310"):
        assert check("tool_use", known, reply).score == 1
    for reply in ("1310", "3100 or 31", " ".join(map(str, range(500)))):
        assert check("tool_use", known, reply).score == 0
    for reply in ("<tool_call>" * 50_000, "<tool_call>x" + " " * 200_000):
        assert check("tool_use", known, reply).score == 0
