"""The base class of actors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

import pykka
from pykka.messages import _ActorStop as ActorStop

from ..messages.errors import ErrorKind, IncarnationFenced, SpecInvalid, UnhandledMessage
from ..messages.message import Message
from ..messages.redact import repr_of
from . import execution, lifecycle
from .attributes import check_attributes
from .cell import RUNNING, STARTING, Cell, ending
from .future import Future
from .handlers import HandlerTable, build_table
from .mailbox import UNBOUNDED_MAILBOX, Mailbox
from .reasons import NORMAL, ExitReason
from .ref import ActorRef, Inbox, stopped_event
from .registry import install
from .request import Request
from .running import BOOT
from .runtime import default_runtime
from .spawning import Spawning
from .timers import Timer, check_seconds
from .watching import unwatch, watch

__all__ = ["Actor"]

A = TypeVar("A", bound="Actor")
P = TypeVar("P", bound=pykka.Actor)


class Actor(Spawning, pykka.Actor):
    """Something with state of its own that handles one message at a time.

    Subclass it, mark methods with ``@handles``, and let an ``ActorSystem`` or a supervisor start it. A class
    that was written for pykka works as it is, started by its ``start()``: then it has no supervisor and
    behaves as pykka's actors do.

    Attributes:
        dispatcher: who runs it. ``pool``: a few threads for any number of actors. ``thread``: a thread of its
            own, for handlers that block in I/O. ``asyncio``: one event loop for all; chosen by itself when a
            handler is ``async def``.
        mailbox: the mailbox's bound and overflow policy; the child spec may say otherwise. None: 10,000
            messages and ``reject`` under a supervisor, no bound when started pykka's way.
        refusals: exceptions that, like ``Refusal``, turn a request down and do not end the incarnation: the
            asker gets them as they are. A tuple, also of one.
        use_daemon_thread: pykka's setting for ``thread`` actors that were started pykka's way.

    Raises:
        SpecInvalid: ``config.actor.invalid``, where a subclass is defined whose attributes are not such values.
        HandlerDeclarationError: likewise, for its handlers.
    """

    dispatcher: ClassVar[Literal["pool", "thread", "asyncio"]] = "pool"
    mailbox: ClassVar[Mailbox | None] = None
    use_daemon_thread: ClassVar[bool] = False
    refusals: ClassVar[tuple[type[Exception], ...]] = ()

    _table: ClassVar[HandlerTable] = HandlerTable()
    _ref_class: ClassVar[type[ActorRef[Any]]] = ActorRef
    _cell: Cell

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._table = build_table(cls)
        if cls._table.has_async:
            cls.dispatcher = "asyncio"
        check_attributes(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        """Set the actor up; subclasses call it first. Arguments are accepted and ignored, as in pykka."""
        if "_cell" not in self.__dict__:
            policy = type(self).mailbox or UNBOUNDED_MAILBOX
            if not self._adopt():
                self._cell = Cell(type(self), default_runtime(), policy)
                self._cell.actor = self  # a constructor may already make a proxy to itself

    if TYPE_CHECKING:  # pykka's own does it; what it returns is one of our references

        @classmethod
        def start(cls: type[A], *args: Any, **kwargs: Any) -> ActorRef[A]:  # pyright: ignore[reportIncompatibleMethodOverride]  # narrower: see ActorRef.ask
            """Start an actor pykka's way: without a supervisor, outside of a system."""
            ...

    # --- pykka's side ----------------------------------------------------------------------------------

    @staticmethod
    def _create_actor_inbox() -> Any:
        """The mailbox belongs to the actor's place; see ``Cell``."""
        raise NotImplementedError

    @staticmethod
    def _create_future() -> Future[Any]:
        return Future()

    def _start_actor_loop(self) -> None:
        cell = self._cell
        cell.handlers = type(self)._table
        cell.incarnation = 1
        cell.state = RUNNING
        cell.signal(BOOT)
        cell.dispatcher.ready(cell)

    @property
    def actor_ref(self) -> ActorRef[Any]:
        """The reference to this actor, to be handed to others."""
        return self._ref_class(self._cell)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # pykka writes it once, nobody else does
        """Pykka's unique identifier of the actor."""
        return self._cell.urn

    @property
    def actor_inbox(self) -> Any:
        """The mailbox, with pykka's ``put``, ``get`` and ``empty``."""
        return Inbox(self._cell)

    @actor_inbox.setter
    def actor_inbox(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # made when read
        raise AttributeError("an actor's mailbox cannot be replaced")

    @property
    def actor_stopped(self) -> Any:
        """A ``threading.Event`` that is set once the actor is gone for good."""
        return stopped_event(self._cell)

    @actor_stopped.setter
    def actor_stopped(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # made when read
        raise AttributeError("actor_stopped cannot be replaced")

    def __str__(self) -> str:
        return self._cell.describe()

    def on_receive(self, message: Any) -> Any:
        """Handle a message that no ``@handles`` method takes.

        Unless overridden it refuses: the asker gets ``actor.message.unhandled``, a tell goes to the dead
        letters, the actor lives on. An actor without a supervisor logs a warning, as pykka's do.

        Raises:
            UnhandledMessage: always, under a supervisor.
        """
        if self._cell.parent is None:
            return super().on_receive(message)
        known = sorted(kind.__name__ for kind in self._table.handlers)
        path = self._cell.path
        what = f"has no handler for {type(message).__name__}; it handles: {', '.join(known) or 'nothing'}"
        if isinstance(message, type) and issubclass(message, Message):
            what = f"was sent the class {message.__name__}, not a message: write {message.__name__}(…)"
        raise UnhandledMessage(
            f"{path} ({type(self).__name__}) {what}",
            actor=path,
            incarnation=self._cell.incarnation,
            target=path,
            message_type=type(message).__name__,
        )

    def _adopt(self) -> bool:
        """Take the place that a child spec's function makes an actor for, if this is the first one that it makes."""
        place = execution.adopting.get()
        if place is None:
            return False
        execution.adopting.set(None)
        cell, life = place
        self._cell = cell
        with ending:
            if cell.incarnation == life and cell.state == STARTING:
                cell.actor = self
        return True

    def on_signal(self, signal: Any) -> None:
        """Take what comes on the control lane beside orders to end; only supervisors get any."""

    def _on_killed(self) -> None:
        """The incarnation was ended by force; ``on_stop`` is not run. What is open is to be closed.

        Called by whoever ends it, maybe while its own code still runs, in a constructor even.
        """

    def _on_not_started(self) -> None:
        """``on_start`` has come to nothing: it failed, said ``IGNORE`` or was given up. What it opened is to be closed.

        Called where ``on_start`` ran. If the start was given up, ``_on_killed`` was called before, in its middle.
        """

    def stop(self, reason: ExitReason = NORMAL) -> None:
        """End this incarnation after the message that is being handled.

        Under a supervisor the child spec's restart type says what follows. An actor started pykka's way
        first handles what waits, and is gone then.

        Args:
            reason: why; ``NORMAL``, ``SHUTDOWN``, ``ExitReason.shutdown(info)``.

        Raises:
            SpecInvalid: ``config.reason.invalid``: it is no ``ExitReason``.
        """
        if not isinstance(reason, ExitReason):
            raise SpecInvalid(
                f"stop({repr_of(reason)}): give NORMAL, SHUTDOWN or another ExitReason", kind=ErrorKind.REASON_INVALID
            )
        cell = self._cell
        if cell.parent is None:
            if cell.alive:
                cell.put_always(ActorStop())
        else:
            self._refuse_if_fenced("stop")
            cell.signal(lifecycle.End(reason))

    # --- what a handler may use ------------------------------------------------------------------------

    @property
    def _fenced(self) -> bool:
        """Whether this incarnation has ended: what it still does is refused."""
        return self._cell.actor is not self

    def _refuse_if_fenced(self, what: str) -> None:
        cell = self._cell
        if cell.actor is not self and cell.incarnation > 0:
            raise IncarnationFenced(
                f"this incarnation of {cell.describe()} has ended: it may not {what} any more",
                actor=cell.path,
                target=cell.path,
                verb=what,
            )

    @overload
    def lookup(self, path: str) -> ActorRef[Any]: ...
    @overload
    def lookup(self, path: str, actor_class: type[P]) -> ActorRef[P]: ...

    def lookup(self, path: str, actor_class: type[Any] | None = None) -> ActorRef[Any]:
        """The reference of another actor of the same system.

        Args:
            path: its path, or its alias.
            actor_class: the class that it must be of, so that a type checker knows it.

        Raises:
            UnknownActor: there is none of that path, or this actor belongs to no system; or
                (``actor.name.other_class``) it is of another class.
        """
        directory = self._cell.runtime.directory
        return directory.resolve(path) if actor_class is None else directory.resolve_as(path, actor_class)

    def after(self, seconds: float, message: Any) -> Timer:
        """Send ``message`` to this actor in ``seconds``, unless the incarnation ends or the timer is cancelled.

        Raises:
            SpecInvalid: ``config.timer.invalid`` where ``seconds`` is no finite number, 0 or more.
        """
        return self._schedule(seconds, message, None)

    def every(self, seconds: float, message: Any) -> Timer:
        """Send ``message`` to this actor every ``seconds``, first in ``seconds``; ends with the incarnation.

        Where the mailbox is full, that one goes to the dead letters (``dropped``).

        Raises:
            SpecInvalid: ``config.timer.invalid`` where ``seconds`` is no finite number above 0.
        """
        return self._schedule(seconds, message, seconds)

    def _schedule(self, seconds: float, message: Any, interval: float | None) -> Timer:
        self._refuse_if_fenced("schedule")
        check_seconds(seconds, repeated=interval is not None)
        cell = self._cell
        timers = cell.needs.timers

        def send() -> None:
            if interval is None:
                timers.discard(timer)
            if cell.actor is not self:
                return
            if interval is not None and len(cell.queue) >= cell.limit:
                cell.runtime.events.dead_letter(cell.path, message, "dropped")
            else:
                cell.put_always(message)

        timer = Timer(cell.runtime.clock() + seconds, send, interval)
        timers.add(timer)
        cell.runtime.timers.add(timer)
        return timer

    def watch(self, other: ActorRef[Any]) -> None:
        """Be sent ``Terminated`` once ``other`` is gone for good; at once if it is. Restarts are not told.

        Raises:
            SpecInvalid: ``config.actor.invalid``: it is no reference.
        """
        self._refuse_if_fenced("watch")
        watch(_cell_of(other, "watch"), self._cell)

    def unwatch(self, other: ActorRef[Any]) -> None:
        """Take a ``watch`` back; raises as that."""
        unwatch(_cell_of(other, "unwatch"), self._cell)

    def defer_reply(self) -> Request[Any]:
        """Answer the request that is being handled later; what the handler returns is then ignored.

        Returns:
            the request, with ``reply`` and ``fail``. For a message that nobody waits for they do nothing.
            If the incarnation ends first, the asker gets ``actor.reply.missing``.

        Raises:
            IncarnationFenced: this incarnation has ended; what is being handled by now is its successor's.
        """
        with ending:  # else it could end in between, and what is found be its successor's
            self._refuse_if_fenced("defer")
            item = self._cell.current
            if type(item) is not Request:
                return Request(item)
            if item.reply_to is None:
                item.reply_to = Future()
                item.reply_to.target = self._cell
            item.hold(self)
            return item.defer()

    def continue_with(self, message: Any) -> None:
        """Handle ``message`` next, before everything that waits (OTP's ``handle_continue``)."""
        self._refuse_if_fenced("continue")
        self._cell.put_always(message, first=True)


def _cell_of(ref: object, verb: str) -> Cell:
    if not isinstance(ref, ActorRef):
        raise SpecInvalid(f"{verb}({repr_of(ref)}): give the reference of an actor", kind=ErrorKind.ACTOR_INVALID)
    return ref._cell


def build(actor_class: type[A], cell: Cell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> A:
    """Make an instance that stands in ``cell``, so that ``__init__`` can already hand out its reference."""
    actor = actor_class.__new__(actor_class)
    actor._cell = cell
    cell.actor = actor
    actor.__init__(*args, **kwargs)  # type: ignore[misc]  # what type(actor)(...) does after __new__
    return actor


def build_with(factory: Callable[..., A], cell: Cell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> A:
    """Make an instance by a function of the user's; the actor it makes takes ``cell`` as its place."""
    token = execution.adopting.set((cell, cell.incarnation))
    try:
        actor = factory(*args, **kwargs)
    finally:
        execution.adopting.reset(token)
    if isinstance(actor, Actor):
        actor._cell = cell
    return actor


install()
