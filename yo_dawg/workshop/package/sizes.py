"""Whether Lambda would take a package of this size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from yo_dawg.errors import PackageError
from yo_dawg.limits import LARGEST, MAX_UNZIPPED_BYTES
from yo_dawg.text import size
from yo_dawg.workshop.package.bytecode import source_of

if TYPE_CHECKING:
    from yo_dawg.trees import Listing
    from yo_dawg.workshop.package.prune import Pruned


def package_sizes(listing: Listing, owners: Mapping[str, str]) -> Counter[str]:
    """Return the bytes of each distribution in a package; what no one owns is "(project)"."""
    sizes: Counter[str] = Counter()
    for name, _, status in listing:
        sizes[owners.get(source_of(name), "(project)")] += status.st_size
    return sizes


def check_size(sizes: Counter[str], layer_bytes: int, pruned: Pruned) -> None:
    """Raise PackageError if Lambda would not take a package of this size: before the work of zipping it."""
    total = sizes.total() + layer_bytes
    if total > MAX_UNZIPPED_BYTES:
        sizes = sizes + Counter({"(layers)": layer_bytes})
        table = "\n".join(f"  {size(count):>10}  {name}" for name, count in sizes.most_common(LARGEST))
        took = ", ".join(f"{reason} {size(count)}" for reason, count in pruned.reasons.items())
        kept = "".join(f"\nKept: {group}, {reason}" for group, reason in pruned.kept.items())
        raise PackageError(
            f"The package unzips to {total:,} bytes; Lambda takes less than {MAX_UNZIPPED_BYTES + 1:,} (250 MB), "
            "layers included. Take a dependency out of the requirements, or what it does not need out of the "
            f"package (drop, in [tool.yo-dawg] of pyproject.toml). Its largest parts:\n{table}\n"
            f"Pruned already: {took or 'nothing'}{kept}"
        )
