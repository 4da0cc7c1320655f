"""What the example prints at its end: the tree, the count, and every error response that a caller received."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from understudy import ActorSystem, ErrorResponse, TreeNode
from understudy.messages.errors import show_code


@dataclass
class Tally:
    """What was counted on the way.

    Attributes:
        published: ids that the broker confirmed.
        broken: number and error of each line that was no notification.
        errors: the error responses that callers received, in the order of their coming.
    """

    published: list[str] = field(default_factory=list)
    broken: list[tuple[int, ErrorResponse]] = field(default_factory=list)
    errors: list[ErrorResponse] = field(default_factory=list)


def print_tree(console: Console, system: ActorSystem) -> None:
    """Print the actors with their restart counts."""
    top = Tree(Text(system.name, style="bold"))
    _add(top, system.tree())
    console.print(top)


def _add(above: Tree, node: TreeNode) -> None:
    for child in node.children:
        style = "yellow" if child.restarts else "green"
        label = Text.assemble((child.name, "bold"), f"  {child.kind}  ", (_times(child.restarts), style))
        _add(above.add(label), child)


def print_broken(console: Console, tally: Tally) -> None:
    """Print the lines that were no notifications."""
    for number, response in tally.broken:
        console.print(
            f"line {number}: {show_code(response.code)} {response.kind}: {response.source}",
            style="red",
            markup=False,
            highlight=False,
        )


def print_errors(console: Console, tally: Tally) -> None:
    """Print the error responses, those of one kind and method once, with how often they came."""
    if not tally.errors:
        return
    first: dict[tuple[str, str], ErrorResponse] = {}
    for each in tally.errors:
        first.setdefault((each.kind, each.method), each)
    times = Counter((each.kind, each.method) for each in tally.errors)
    console.print("error responses that callers received:", style="bold")
    for key, each in first.items():
        head = Text.assemble((show_code(each.code), "bold red"), f" {each.kind} in {each.method}  ×{times[key]}")
        console.print(head, soft_wrap=True)
        console.print("    " + each.to_json().decode(), style="dim", soft_wrap=True, markup=False, highlight=False)


def _times(restarts: int) -> str:
    return "never restarted" if restarts == 0 else f"restarted {restarts}×"
