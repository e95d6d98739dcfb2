"""Longer sums and products: every step is right, and the steps lead to the answer."""

import re

import pytest

from inhouse.environments.long_arithmetic import PRODUCTS, SUMS


@pytest.mark.parametrize("level", [1, 2, 3, 9])
def test_columns_of_sums_and_differences(level):
    signs = set()
    for problem in SUMS.at(level).draw("train", 200, 0, None):
        first, *columns, _ = problem.worked.split("\n")
        assert str(eval(first)) == problem.answer
        for column in columns:
            left, right = column.split(" = ")
            assert eval(left) == int(right)
            assert all(0 <= int(number) < 20 for number in re.findall(r"\d+", left))
        digits = "".join(str(int(column.split(" = ")[1]) % 10) for column in reversed(columns))
        whole = int(digits) + (10**level if first.count("+") and int(problem.answer) >= 10**level else 0)
        assert whole == abs(int(problem.answer))
        assert {len(number) for number in re.findall(r"\d+", first)} == {level}
        signs.add("+" if "+" in first else "-(" if first.startswith("-") else "-")
    assert signs == {"+", "-(", "-"}


@pytest.mark.parametrize(("level", "digits"), [(1, [1, 1]), (3, [3, 1]), (4, [2, 2]), (6, [3, 3])])
def test_parts_of_products(level, digits):
    for problem in PRODUCTS.at(level).draw("train", 200, 0, None):
        first, *parts, _ = problem.worked.split("\n")
        assert [len(number) for number in first.split(" * ")] == digits
        assert str(eval(first)) == problem.answer
        total = 0
        for part in parts:
            left, value, so_far = re.fullmatch(r"(.*) = (\d+), (\d+)", part).groups()
            total += int(value)
            assert (eval(left), total) == (int(value), int(so_far))
        assert str(total) == problem.answer
