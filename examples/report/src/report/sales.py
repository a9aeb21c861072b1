"""The sales, as a table."""

from pathlib import Path

import pandas as pd

CSV = Path(__file__).parent / "data" / "sales.csv"
GROUPS = ("region", "product", "month")


def load(path=CSV):
    """Read the sales; add each one's month and revenue."""
    table = pd.read_csv(path, parse_dates=["date"])
    table["month"] = table["date"].dt.strftime("%Y-%m")
    table["revenue"] = table["quantity"] * table["price"]
    return table


def summary(table, by):
    """Return what each group sold and its share of all revenue, the best one first."""
    groups = table.groupby(by).agg(quantity=("quantity", "sum"), revenue=("revenue", "sum"))
    groups["share"] = groups["revenue"] / groups["revenue"].sum()
    ordered = groups.sort_values("revenue", ascending=False).round({"revenue": 2, "share": 4})
    return ordered.reset_index().to_dict(orient="records")


def best_month(table):
    """Return the month with the most revenue."""
    return table.groupby("month")["revenue"].sum().idxmax()
