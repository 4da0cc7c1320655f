"""pykka's ``ActorRegistry``, made fit for many actors.

pykka keeps its references in a list, so that a stop costs a search through all of them. The registry's own
methods work on whatever stands in the list's place; here it is a dict in the order of registration. It also
shows the supervised actors of every running system, which are not kept twice: they are read off their trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

import pykka

from .forking import in_forks, renewed_in_forks

__all__ = ["install", "show_tree"]


class _References:
    """The part of a list's interface that the registry uses."""

    def __init__(self) -> None:
        self._started: dict[pykka.ActorRef[Any], None] = {}
        self.trees: dict[object, Callable[[], Iterable[pykka.ActorRef[Any]]]] = {}

    def append(self, ref: pykka.ActorRef[Any]) -> None:
        self._started[ref] = None

    def remove(self, ref: pykka.ActorRef[Any]) -> None:
        self._started.pop(ref, None)

    def leave_behind(self) -> None:
        """This process was just forked: no thread that ran any of them is here."""
        self._started.clear()
        self.trees.clear()

    def __contains__(self, ref: object) -> bool:
        return ref in self._started or any(ref == known for known in self._supervised())

    def __iter__(self) -> Iterator[pykka.ActorRef[Any]]:
        yield from tuple(self._started)
        yield from self._supervised()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> pykka.ActorRef[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[pykka.ActorRef[Any]]: ...
    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def _supervised(self) -> Iterator[pykka.ActorRef[Any]]:
        for tree in tuple(self.trees.values()):
            yield from tree()


_references = _References()


def install() -> None:
    """Put it in the place of pykka's list, once; what was registered before stays registered."""
    registry: Any = pykka.ActorRegistry
    if registry._actor_refs is not _references:
        with registry._actor_refs_lock:
            for ref in registry._actor_refs:
                _references.append(ref)
            registry._actor_refs = _references
        renewed_in_forks(registry._actor_refs_lock)
        in_forks(_references.leave_behind)


def show_tree(key: object, tree: Callable[[], Iterable[pykka.ActorRef[Any]]] | None) -> None:
    """Let the registry show what ``tree()`` yields, under ``key``; None ends that."""
    if tree is None:
        _references.trees.pop(key, None)
    else:
        _references.trees[key] = tree
