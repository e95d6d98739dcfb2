"""Numbers as people and models write them."""

from fractions import Fraction

import pytest

from inhouse.environments.numbers import number_of, numbers_in


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("18", 18), ("18.", 18), ("-18", -18), ("\u221218", -18), ("\u201318", -18), ("+18", 18), ("0018", 18),
        ("1,234", 1234), ("1,234,567.25", Fraction("1234567.25")), ("12\u202f345", 12345), ("1\u00a0000", 1000),
        ("1{,}000", 1000), (r"1\,000", 1000),
        ("$18", 18), ("$ 18.50", Fraction(37, 2)), ("-$5", -5), ("$-5", -5), ("US$5", 5), (r"\$18", 18), ("€3", 3),
        ("18 dollars", 18), ("18km/h", 18), ("12%", 12), ("12 %", 12), (r"12\%", 12), ("18 apples.", 18), ("5x", 5),
        ("3/4", Fraction(3, 4)), ("-3/4", Fraction(-3, 4)), ("1 1/2", Fraction(3, 2)), ("2 and 1/4 l", Fraction(9, 4)),
        ("\u00bd", Fraction(1, 2)), ("1\u00bd", Fraction(3, 2)), (r"\frac{3}{4}", Fraction(3, 4)),
        ("-1 1/2", Fraction(-3, 2)), (r"\boxed{18}", 18), ("**18**", 18), ("(18)", 18), ("x=18", 18), ("x = -18", -18),
        (".5", Fraction(1, 2)), ("1.2e3", 1200), ("5E-1", Fraction(1, 2)), ("\uff11\uff18", 18),
    ],
)  # fmt: skip
def test_one_number_however_written(text, number):
    assert number_of(text) == number


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []), ("none", []), ("a5 and b_6", []), ("1/0", []), ("9" * 5_000, []), ("$", []), ("-", []),
        ("16-3-4 = 9", [16, 3, 4, 9]), ("1,2", [1, 2]), ("1, 2, and 3.", [1, 2, 3]), ("from 3 to -3", [3, -3]),
        ("1,2345", [1, 2345]), ("9 * 2 = $18", [9, 2, 18]), ("5 3/2", [5, Fraction(3, 2)]), ("(3)-4", [3, 4]),
        ("10:30", [10, 30]), ("2.5.", [Fraction(5, 2)]),
    ],
)  # fmt: skip
def test_all_numbers_of_a_text(text, numbers):
    assert numbers_in(text) == numbers
    assert number_of(text) == (numbers[0] if len(numbers) == 1 else None)
