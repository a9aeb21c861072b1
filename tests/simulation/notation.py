"""What is written in ledgers, manifests and records: Python's own notation in place of JSON, and nothing done twice."""

from __future__ import annotations

import ast
from typing import Any, ClassVar

from yo_dawg.control.ledger import BuildRecord


class FastJson:
    """The module ``json`` as a schedule sees it: what is written is Python's own notation, and nothing is done twice.

    Most of a schedule's time would be spent in writing and reading the same few entries of ledgers.  An entry never
    changes, so what was written of it is known by the object itself, which is kept alive here for that.
    """

    said: ClassVar[dict[bytes, Any]] = {}
    """What texts say, which nobody changes."""
    entries: ClassVar[dict[int, tuple[Any, str]]] = {}
    """By its address an entry, and its text."""
    records: ClassVar[dict[int, tuple[Any, BuildRecord]]] = {}
    """By its address an entry, and what was read of it."""

    @classmethod
    def loads(cls, content: bytes) -> Any:
        """Return what it says."""
        if content not in cls.said:
            cls.said[content] = ast.literal_eval(content.decode())
        value = cls.said[content]
        return value if "history" in value else dict(value)  # a manifest's reader takes something out

    @classmethod
    def dumps(cls, value: Any, **_: Any) -> str:
        """Return it in one line."""
        if "history" not in value:
            return repr(value)
        told = ", ".join(map(cls.entry, value["history"]))
        text = f"{{'holder': {cls.entry(value['holder'])}, 'history': [{told}]}}"
        cls.said[text.encode()] = value
        return text

    @classmethod
    def entry(cls, entry: Any) -> str:
        """Return an entry of a ledger in one line."""
        if (found := cls.entries.get(id(entry))) is None:
            found = cls.entries[id(entry)] = entry, repr(entry)
        return found[1]

    @classmethod
    def record(cls, entry: Any) -> BuildRecord:
        """Return what ``BuildRecord.from_json`` makes of an entry."""
        if (found := cls.records.get(id(entry))) is None:
            found = cls.records[id(entry)] = entry, READ_ENTRY(entry)
        return found[1]

    @classmethod
    def forget(cls) -> None:
        """Make room, between two runs."""
        if len(cls.said) > 2000:
            for each in (cls.said, cls.entries, cls.records):
                each.clear()


READ_ENTRY = BuildRecord.from_json
