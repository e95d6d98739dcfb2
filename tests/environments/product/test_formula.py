"""Formulas: as common spreadsheets have them, on one small sheet."""

from typing import Any

import pytest

from inhouse.environments.product.cells import FormulaError
from inhouse.environments.product.formula import Unreadable, evaluate

SHEET = [
    ["Region", "Product", "Units", "Price"],
    ["North", "mugs", 10, 2.5],
    ["South", "tents", 20, 40.0],
    ["North", "lamps", 30, 15.0],
    ["West", "mats", 5, None],
]


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("=1+2*3", 7),
        ("=(1+2)*3", 9),
        ("=-2^2", 4),
        ("=2^3^2", 64),
        ("=10%*50", 5),
        ('="a"&1&TRUE', "a1TRUE"),
        ('="North"=A2', True),
        ("=C2<>C3", True),
        ('="a">99', True),
        ("=SUM(C2:C5)", 65),
        ("=sum($C$2:$C$5, 1; 2)", 68),
        ("=SUM(C:C)", 65),
        ("=AVERAGE(D2:D5)", 57.5 / 3),
        ("=MEDIAN(C2:C5)", 15),
        ("=MAX(C2:C5)-MIN(C2:C5)", 25),
        ("=COUNT(D2:D5)", 3),
        ("=COUNTA(A1:A9)", 5),
        ('=SUMIF(A2:A5,"north",C2:C5)', 40),
        ('=SUMIF(C2:C5,">=20")', 50),
        ('=SUMIFS(C2:C5,A2:A5,"North",D2:D5,">"&3)', 30),
        ('=COUNTIF(B2:B5,"m*")', 2),
        ('=COUNTIF(A2:A5,"<>North")', 2),
        ('=COUNTIFS(A2:A5,"North",C2:C5,">10")', 1),
        ('=AVERAGEIF(A2:A5,"North",C2:C5)', 20),
        ('=MAXIFS(C2:C5,A2:A5,"North")', 30),
        ("=SUMPRODUCT(C2:C4,D2:D4)", 1275),
        ('=SUMPRODUCT((A2:A5="North")*C2:C5*D2:D5)', 475),
        ('=SUMPRODUCT(--(A2:A5="North"),C2:C5)', 40),
        ('=SUM(IF(A2:A5="North",C2:C5,0))', 40),
        ('=SUM(FILTER(C2:C5,A2:A5="North"))', 40),
        ("=INDEX(B2:B5,MATCH(MAX(D2:D5),D2:D5,0))", "tents"),
        ('=VLOOKUP("South",A2:D5,3,FALSE)', 20),
        ('=XLOOKUP("mats",B2:B5,C2:C5)', 5),
        ('=XLOOKUP("x",B2:B5,C2:C5,"none")', "none"),
        ("=LARGE(C2:C5,2)+SMALL(C2:C5,1)", 25),
        ("=ROUND(2.345,2)", 2.35),
        ("=ROUND(-2.5,0)", -3),
        ("=IF(C2>5,IF(C2>50,1,2),3)", 2),
        ("=IF(C2>5,1,1/0)", 1),
        ("=IFERROR(1/0,7)", 7),
        ('=IFERROR(AVERAGEIF(C2:C5,">99",D2:D5),0)', 0),
        ("=IFERROR(MATCH(9,C2:C5,0),-1)+1", 0),
        ("=AND(C2=10,OR(FALSE,D2=2.5),NOT(FALSE))", True),
        ("=E99", None),
        ("= SUM( C2 : C3 )", Unreadable),
        ("=SUM(C2:C5", Unreadable),
        ("=SUM(C2:C5))", Unreadable),
        ("=IFERROR(FOO(1),2)", Unreadable),
        ("SUM(C2:C5)", Unreadable),
        ("=C0", Unreadable),
        ("=__import__", Unreadable),
        ("=1/0", FormulaError),
        ("=A2+1", FormulaError),
        ('=VLOOKUP("East",A2:D5,3,FALSE)', FormulaError),
        ("=C2:C5*D2:D3", FormulaError),
        ("=9^999", FormulaError),
        ("=ROUND()", FormulaError),
        ("=INDEX(C2:C5,9)", FormulaError),
    ],
)
def test_a_formula(formula: str, value: Any) -> None:
    if isinstance(value, type):
        with pytest.raises(value):
            evaluate(formula, SHEET)
    elif isinstance(value, float):
        assert evaluate(formula, SHEET) == pytest.approx(value)
    else:
        assert evaluate(formula, SHEET) == value
