import csv
from collections import defaultdict
from pathlib import Path

import pytest
from report import sales

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def table():
    return sales.load(PROJECT / "data" / "sales.csv")


@pytest.mark.parametrize("by", ["region", "product"])
def test_sums_are_those_of_the_file(table, by):
    sums = defaultdict(float)
    with (PROJECT / "data" / "sales.csv").open() as file:
        for row in csv.DictReader(file):
            sums[row[by]] += int(row["quantity"]) * float(row["price"])
    groups = sales.summary(table, by)
    assert {group[by]: group["revenue"] for group in groups} == pytest.approx(sums, abs=0.01)
    assert sum(group["share"] for group in groups) == pytest.approx(1, abs=0.001)


def test_the_best_comes_first(table):
    months = sales.summary(table, "month")
    assert months == sorted(months, key=lambda group: -group["revenue"])
    assert months[0]["month"] == sales.best_month(table)
