"""Wire names: a message type crosses a wire under a registered name, never under an import path.

A peer can therefore only name what was meant to be named, and a module may move without breaking its peers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

from .errors import CodecError, ErrorKind
from .message import Message
from .redact import repr_of
from .suggest import did_you_mean

M = TypeVar("M", bound=Message[object])

_OWN = f"{__package__}."
_WIRE_NAME = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
MAX_NAME = 255
"""How many characters a wire name may have: as many as AMQP's short strings."""


SERVICES = ("broker", "cache", "errorlog", "lock", "mutator", "notifications")
"""The modules here that register messages."""

PREFIXES = ("broker", "cache", "errorlog", "lock", "notif")
"""What their names begin with. Nobody else's may, whether or not those modules have been imported yet."""


class WireRegistry:
    """Names of message types, both ways.

    Args:
        parent: Where a name or type is looked up that is not registered here. A registry of one's own on top
            of the default one keeps one's messages apart from other systems in the same process.
    """

    def __init__(self, parent: WireRegistry | None = None) -> None:
        if parent is not None and not isinstance(parent, WireRegistry):
            raise CodecError(
                f"parent={repr_of(parent)}: give a WireRegistry", kind=ErrorKind.ARGUMENT_INVALID, field="parent"
            )
        self._parent = parent
        self._types: dict[str, type[Message[object]]] = {}
        self._names: dict[type[Message[object]], str] = {}

    def register(self, name: str) -> Callable[[type[M]], type[M]]:
        """Give a message type its wire name, as a decorator.

        ::

            @register("bank.deposit")
            class Deposit(Message[int]):
                amount: int

        Doing it twice with the same type is harmless.

        Args:
            name: Words of letters, digits, `_` and `-`, joined by dots.

        Raises:
            CodecError: `codec.type.invalid` for a name of another form, or what is not a message type;
                `codec.type.duplicate` if the name belongs to another type, the type has another name, or the name
                begins as those of the services' messages do (`lock.`, `notif.` …).
        """
        if not isinstance(name, str) or len(name) > MAX_NAME or not re.fullmatch(_WIRE_NAME, name):
            raise CodecError(
                f"{repr_of(name, 300)} is not a wire name: words of letters, digits, _ and -, joined by dots",
                kind=ErrorKind.TYPE_INVALID,
            )

        def decorate(message_type: type[M]) -> type[M]:
            self._add(name, message_type)
            return message_type

        return decorate

    def _add(self, name: str, message_type: type[Message[object]]) -> None:
        if not (isinstance(message_type, type) and issubclass(message_type, Message)):
            raise CodecError(
                f"{name!r} cannot name {repr_of(message_type, 300)}, which is not a Message type",
                kind=ErrorKind.TYPE_INVALID,
            )
        prefix = name.partition(".")[0]
        if self._is_reserved(prefix) and not f"{message_type.__module__}.".startswith(_OWN):
            raise CodecError(
                f"the wire name {name!r} of {_path(message_type)}: names that begin with {prefix!r} are those of "
                "understudy's own messages, choose another first word",
                kind=ErrorKind.TYPE_DUPLICATE,
            )
        holder = self._find_type(name)
        if holder not in (None, message_type):
            raise CodecError(
                f"the wire name {name!r} belongs to {_path(holder)}, {_path(message_type)} needs another",
                kind=ErrorKind.TYPE_DUPLICATE,
            )
        earlier = self._find_name(message_type)
        if earlier not in (None, name):
            raise CodecError(
                f"{_path(message_type)} is {earlier!r} on the wire, and cannot also be {name!r}",
                kind=ErrorKind.TYPE_DUPLICATE,
            )
        self._types[name] = message_type
        self._names[message_type] = name

    def name_of(self, message: Message[object] | type[Message[object]]) -> str:
        """Look up the wire name of a message or message type.

        Raises:
            CodecError: `codec.type.unregistered`.
        """
        message_type = message if isinstance(message, type) else type(message)
        name = self._find_name(message_type)
        if name is None:
            raise CodecError(
                f"{_path(message_type)} has no wire name; give it one with @register(...)",
                kind=ErrorKind.TYPE_UNREGISTERED,
                message_type=message_type.__qualname__,
            )
        return name

    def type_of(self, name: str) -> type[Message[object]]:
        """Look up the message type of a wire name.

        Raises:
            CodecError: `codec.type.unknown`, suggesting the nearest name.
        """
        found = self._find_type(name) if isinstance(name, str) else None
        if found is None and name in self.names():  # one whose module was not imported before
            found = self._find_type(name)
        if found is None:
            raise CodecError(
                f"no message type is registered as {repr_of(name, 300)}{did_you_mean(name, self.names())}",
                kind=ErrorKind.TYPE_UNKNOWN,
                message_type=name if isinstance(name, str) else "",
            )
        return found

    def names(self) -> list[str]:
        """All names known here and in the parents, sorted."""
        inherited = self._parent.names() if self._parent else []
        return sorted({*self._types, *inherited})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (self._find_type(name) is not None or name in self.names())

    def _is_reserved(self, prefix: str) -> bool:
        return self._parent is not None and self._parent._is_reserved(prefix)

    def _find_type(self, name: str) -> type[Message[object]] | None:
        found = self._types.get(name)
        return self._parent._find_type(name) if found is None and self._parent else found

    def _find_name(self, message_type: type[Message[object]]) -> str | None:
        found = self._names.get(message_type)
        return self._parent._find_name(message_type) if found is None and self._parent else found


class _DefaultRegistry(WireRegistry):
    """Knows the services' messages, too, whose modules are imported when somebody asks for what is not there."""

    def _is_reserved(self, prefix: str) -> bool:
        return prefix in PREFIXES

    def names(self) -> list[str]:
        for service in SERVICES:
            import_module(f".{service}", __package__)
        return super().names()


def _path(message_type: type | None) -> str:
    return "nothing" if message_type is None else f"{message_type.__module__}.{message_type.__qualname__}"


default_registry = _DefaultRegistry()
"""The names of everything that is registered with `register`; the services' messages among them."""

register = default_registry.register
