"""Elements of a page, in which every text is escaped: no markup is ever pasted together."""

from __future__ import annotations

import base64
import hashlib
from xml.etree.ElementTree import Element, tostring

from yo_dawg.text import printable


def element(tag: str, *inside: Element | str, **attributes: str) -> Element:
    """Return an element with texts and elements in it; ``class_`` is its class.

    Texts may be anybody's: control characters and those that turn the direction of writing are taken out.
    """
    made = Element(tag, {name.rstrip("_"): printable(value) for name, value in attributes.items()})
    last: Element | None = None
    for each in inside:
        if not isinstance(each, str):
            made.append(each)
            last = each
        elif last is None:
            made.text = (made.text or "") + printable(each)
        else:
            last.tail = (last.tail or "") + printable(each)
    return made


def table(columns: list[str], rows: list[list[str]], numbers: int = 0) -> Element:
    """Return a table, of which the last columns hold numbers."""
    kinds = [""] * (len(columns) - numbers) + ["number"] * numbers
    head = element("tr", *(element("th", text, class_=kind) for text, kind in zip(columns, kinds, strict=True)))
    body = [
        element("tr", *(element("td", text, class_=kind) for text, kind in zip(row, kinds, strict=True)))
        for row in rows
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="wide")


def bars(values: list[tuple[str, float, str]], name: str) -> Element:
    """Return bars, one below the other: of each what it is, its length, and that in words."""
    most = max((value for _, value, _ in values), default=0) or 1
    height = 20 * len(values)
    picture = element("svg", element("title", name), viewBox=f"0 0 1200 {height}", class_="bars", role="img")
    for number, (what, value, told) in enumerate(values):
        top = 20 * number
        width = max(700 * value / most, 1)
        label = element("svg", element("text", what, x="0", y="14"), x="0", y=f"{top}", width="380", height="20")
        picture.append(
            element(
                "g",
                element("title", f"{what}: {told}"),
                label,
                element("rect", x="390", y=f"{top + 3}", width=f"{width:.1f}", height="14"),
                element("text", told, x=f"{396 + width:.1f}", y=f"{top + 14}"),
            )
        )
    return picture


def write_page(title: str, style: str, *inside: Element) -> str:
    """Return a page that loads nothing and runs nothing: its policy allows for this one style sheet only."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    sheet = element("style")
    sheet.text = style  # the only text that is not escaped: it is ours
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Element("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        sheet,
    )
    page = element("html", head, element("body", *inside), lang="en")
    return f"<!DOCTYPE html>\n{tostring(page, encoding='unicode', method='html')}\n"
