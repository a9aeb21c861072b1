"""The Lambda function: reads the event, answers with a report."""

from report import sales

TABLE = sales.load()


def handler(event, context):
    """Answer with the sales by region, product or month."""
    by = event.get("by", "region")
    if by not in sales.GROUPS:
        raise ValueError(f"cannot report by {by!r}: choose one of {', '.join(sales.GROUPS)}")
    return {
        "by": by,
        "sales": len(TABLE),
        "revenue": round(float(TABLE["revenue"].sum()), 2),
        "groups": sales.summary(TABLE, by),
        "best_month": sales.best_month(TABLE),
    }
