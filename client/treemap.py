"""A treemap: what takes how much room, as nested rectangles in SVG (squarified: Bruls, Huizing, van Wijk, 2000)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from client.answers import megabytes
from client.markup import element

WIDTH, HEIGHT = 1200.0, 700.0

LEAST_AREA = 40.0
"""Square units: what would be smaller is drawn together with its like, so the page is bounded however many files."""

HEADER = 15.0
"""Where the name of a distribution or a folder stands."""

GREY = "hsl(0 0% 78%)"

DEEPEST = 10
"""Folders in folders; what is deeper is drawn as one."""


@dataclass
class Node:
    """Something with a size: a file, or what holds files."""

    name: str
    path: str
    colour: str = ""
    bytes: int = 0
    children: dict[str, Node] = field(default_factory=dict)

    def child(self, name: str, path: str) -> Node:
        """Return what is in it by a name, made if it is not there."""
        if name not in self.children:
            self.children[name] = Node(name, path, self.colour)
        return self.children[name]


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        """Its area."""
        return self.width * self.height

    def attributes(self) -> dict[str, str]:
        """Return what SVG calls it."""
        return {name: f"{value:.1f}" for name, value in vars(self).items()}

    def inside(self) -> Box:
        """Return where its children go: below its name, if there is room for that."""
        top = HEADER if self.width > 40 and self.height > 2 * HEADER else 1.0
        return Box(self.x + 1, self.y + top, max(self.width - 2, 0), max(self.height - top - 1, 0))


def make_tree(sizes: Mapping[str, int], owners: Mapping[str, str], project: str, pruned: Mapping[str, int]) -> Node:
    """Return the files of a package below the distributions that they are of; ``project`` is for all others.

    ``pruned`` is what pruning took, by reasons: it stands beside the package, in grey.
    """
    root = Node("", "")
    for name, count in sizes.items():
        owner = owners.get(name, project)
        root.bytes += count
        node = root.child(owner, owner)
        node.bytes += count
        parts = name.split("/", DEEPEST)
        for number, part in enumerate(parts, 1):
            node = node.child(part, "/".join(parts[:number]))
            node.bytes += count
    for number, each in enumerate(sorted(root.children.values(), key=lambda each: (-each.bytes, each.name))):
        colour(each, f"hsl({number * 137.5 % 360:.0f} 55% 72%)")  # the golden angle: neighbours differ
    for reason, count in pruned.items():
        grey = root.child("pruned", "pruned")
        grey.child(reason, f"pruned: {reason}").bytes += count
        grey.bytes += count
        root.bytes += count
        colour(grey, GREY)
    return root


def colour(node: Node, value: str) -> None:
    """Give a node and all that is in it a colour."""
    todo = [node]
    while todo:
        each = todo.pop()
        each.colour = value
        todo += each.children.values()


def squarify(sizes: Sequence[float], box: Box) -> Iterator[Box]:
    """Yield a rectangle for each size, as square as can be; the sizes are positive, the largest first."""
    total = sum(sizes)
    areas = [each * box.area / total for each in sizes]
    start = 0
    while start < len(areas):
        side = min(box.width, box.height)
        end, filled = start + 1, areas[start]
        while end < len(areas) and is_better(areas[start], areas[end - 1], areas[end], filled, side):
            filled += areas[end]
            end += 1
        depth, at = filled / side if side else 0.0, 0.0
        for each in areas[start:end]:
            length = each / depth if depth else 0.0
            if box.width >= box.height:
                yield Box(box.x, box.y + at, depth, length)
            else:
                yield Box(box.x + at, box.y, length, depth)
            at += length
        if box.width >= box.height:
            box = Box(box.x + depth, box.y, max(box.width - depth, 0), box.height)
        else:
            box = Box(box.x, box.y + depth, box.width, max(box.height - depth, 0))
        start = end


def is_better(largest: float, smallest: float, more: float, filled: float, side: float) -> bool:
    """Say whether a row's rectangles are no less square with one more."""

    def worst(smallest: float, filled: float) -> float:
        return max(side**2 * largest / filled**2, filled**2 / (side**2 * smallest))

    return worst(more, filled + more) <= worst(smallest, filled)


def draw(root: Node) -> Element:
    """Return the SVG of a tree."""
    picture = element("svg", viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}", class_="treemap", role="img")
    picture.append(element("title", f"What takes how much of {megabytes(root.bytes)}"))
    picture.extend(drawn_children(root, Box(0, 0, WIDTH, HEIGHT)))
    return picture


def drawn_children(node: Node, box: Box) -> Iterator[Element]:
    """Yield what is in a node, drawn into a box."""
    shown = largest_first(node, box.area)
    for child, place in zip(shown, squarify([child.bytes for child in shown], box), strict=True):
        group = element("g", element("title", f"{child.path} — {megabytes(child.bytes)}"))
        group.append(element("rect", fill=child.colour, **place.attributes()))
        if place.width > 40 and place.height > HEADER:
            # An svg within an svg shows nothing that goes beyond it.
            text = element("text", child.name, x="3", y="11")
            label = element("svg", text, **Box(place.x, place.y, place.width - 3, HEADER).attributes())
            group.append(label)
        if child.children and place.area > 4 * LEAST_AREA:
            group.extend(drawn_children(child, place.inside()))
        yield group


def largest_first(node: Node, area: float) -> list[Node]:
    """Return what is in a node, the largest first; what would be too small to be seen is put together."""
    least = node.bytes * LEAST_AREA / area if area else node.bytes
    shown = [each for each in node.children.values() if each.bytes and each.bytes >= least]
    count = len(node.children) - len(shown)
    left = node.bytes - sum(each.bytes for each in shown)
    if left:
        name = f"{count} smaller ones"
        shown.append(Node(name, f"{node.path}: {name}" if node.path else name, node.colour or GREY, left))
    return sorted(shown, key=lambda each: (-each.bytes, each.name))
