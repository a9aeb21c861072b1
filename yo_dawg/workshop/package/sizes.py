"""Whether Lambda would take a package of this size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from yo_dawg.errors import PackageError
from yo_dawg.limits import LARGEST, MAX_UNZIPPED_BYTES
from yo_dawg.text import printable, size
from yo_dawg.trees import source_of

if TYPE_CHECKING:
    from yo_dawg.trees import Listing
    from yo_dawg.workshop.package.prune import Pruned


def package_sizes(listing: Listing, owners: Mapping[str, str]) -> Counter[str]:
    """Return the bytes of each distribution in a package; what no one owns is "(project)"."""
    sizes: Counter[str] = Counter()
    for name, _, status in listing:
        sizes[owners.get(source_of(name), "(project)")] += status.st_size
    return sizes


def check_size(
    sizes: Counter[str],
    layer_bytes: int,
    pruned: Pruned,
    listing: Listing = (),
    owners: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise PackageError if Lambda would not take a package of this size: before the work of zipping it.

    ``sizes`` are the bytes of each distribution, see ``package_sizes``; ``layer_bytes`` those of the function's
    layers.  The error names the largest distributions and, of the files in ``listing`` that no one in ``owners``
    owns, the largest: these are the project's own.
    """
    total = sizes.total() + layer_bytes
    if total <= MAX_UNZIPPED_BYTES:
        return
    sizes = sizes + Counter({"(layers)": layer_bytes})
    files = Counter({printable(name): status.st_size for name, _, status in listing if source_of(name) not in owners})
    own = f"\nThe project's largest files:\n{table(files)}" if files else ""
    took = ", ".join(f"{reason} {size(count)}" for reason, count in pruned.reasons.items())
    kept = "".join(f"\nKept: {group}, {reason}" for group, reason in pruned.kept.items())
    raise PackageError(
        f"The package unzips to {total:,} bytes; Lambda takes less than {MAX_UNZIPPED_BYTES + 1:,} (250 MB), "
        "layers included. Take a dependency out of the requirements, or what it does not need out of the "
        f"package (drop, in [tool.yo-dawg] of pyproject.toml). Its largest parts:\n{table(sizes)}{own}\n"
        f"Pruned already: {took or 'nothing'}{kept}"
    )


def table(sizes: Counter[str]) -> str:
    """Return lines of the largest of these."""
    return "\n".join(f"  {size(count):>10}  {name}" for name, count in sizes.most_common(LARGEST))
