"""What a class of actors says of itself by its attributes: checked when the class is defined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of
from ..messages.suggest import did_you_mean
from .mailbox import Mailbox

if TYPE_CHECKING:
    from .actor import Actor

__all__ = ["check_attributes"]

DISPATCHERS = ("pool", "thread", "asyncio")


def check_attributes(actor_class: type[Actor]) -> None:
    """Refuse an attribute that would only be found wrong, or be overlooked, when an actor of the class runs.

    Raises:
        SpecInvalid: ``config.actor.invalid``, naming the class and the attribute.
    """
    dispatcher: Any = actor_class.dispatcher
    if dispatcher not in DISPATCHERS:
        choices = " or ".join(map(repr, DISPATCHERS))
        raise _invalid(actor_class, "dispatcher", f"give {choices}{did_you_mean(dispatcher, DISPATCHERS)}")
    mailbox: Any = actor_class.mailbox
    if mailbox is not None and not isinstance(mailbox, Mailbox):
        raise _invalid(actor_class, "mailbox", "give a Mailbox, such as Mailbox(capacity=100), or None")
    refusals: Any = actor_class.refusals
    if not isinstance(refusals, (tuple, list)) or not all(map(_is_exception, refusals)):
        raise _invalid(actor_class, "refusals", "give a tuple of exception classes, also for one: (LookupError,)")


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _invalid(actor_class: type[Actor], attribute: str, what: str) -> SpecInvalid:
    value = getattr(actor_class, attribute)
    return SpecInvalid(
        f"{actor_class.__qualname__}: {attribute} = {repr_of(value)}: {what}",
        kind=ErrorKind.ACTOR_INVALID,
        field=attribute,
        value=value,
    )
