"""References: the only way to reach an actor. A reference names a place, so it outlives restarts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

import pykka
from pykka.messages import _ActorStop as ActorStop

from ..messages.errors import ActorError, ActorRestarting, AskCycle, LoopBlocked
from ..messages.message import Message
from . import execution, killing, running
from .future import Future
from .request import Request
from .runtime import forked
from .timeouts import INFINITY, as_timeout

if TYPE_CHECKING:
    from .cell import Cell
    from .execution import Party

__all__ = ["ActorRef"]

A = TypeVar("A", bound=pykka.Actor)
R = TypeVar("R")


class ActorRef(pykka.ActorRef[A], Generic[A]):
    """Where to send messages for one actor. Two references to the same place are equal."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    # --- pykka's attributes, made when read ------------------------------------------------------------

    @property
    def actor_class(self) -> type[A]:  # type: ignore[override]  # pykka writes it once, nobody else does
        """The class of the actor."""
        return cast("type[A]", self._cell.actor_class)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # as above
        """Pykka's unique identifier of the actor."""
        return self._cell.urn

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]  # as above
        """An event that is set once the actor is gone for good."""
        return stopped_event(self._cell)

    @property
    def actor_inbox(self) -> Any:
        """The mailbox, with pykka's ``put``, ``get`` and ``empty``."""
        return Inbox(self._cell)

    @actor_inbox.setter
    def actor_inbox(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # made when read
        raise AttributeError("an actor's mailbox cannot be replaced")

    @property
    def _actor_weakref(self) -> Callable[[], A | None]:  # type: ignore[override]  # pykka's proxies call it
        return lambda: cast("A | None", self._cell.actor)

    # --- who it is -------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The actor's path in its system, such as ``notifications/broker``."""
        return self._cell.path

    @property
    def incarnation(self) -> int:
        """Which life of the actor it is, counted from 1."""
        return self._cell.incarnation

    def is_alive(self) -> bool:
        """Whether the actor handles messages, now or after the restart that is under way."""
        return self._cell.alive

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other._cell is self._cell

    def __hash__(self) -> int:
        return id(self._cell)

    def __str__(self) -> str:
        return self._cell.describe()

    def __repr__(self) -> str:
        return f"<ActorRef for {self}>"

    # --- sending ---------------------------------------------------------------------------------------

    def tell(self, message: Any, *, method: str | None = None) -> None:
        """Send a message and wait for nothing.

        Args:
            message: what to say; any object, a ``Message`` by preference.
            method: the dotted name that an error carries instead of the calling function's.

        Raises:
            MailboxFull: the mailbox holds what it may, and its overflow policy is ``reject``.
            MailboxClosed: (also a ``pykka.ActorDeadError``) the actor is gone.
            ActorRestarting: it is being restarted and is set to refuse mail meanwhile.
            AskTimeout: the policy is ``block``, and the deadline of what is being handled passed.
        """
        cell = self._cell
        if forked.happened:
            cell.runtime.refuse_if_forked("tell", cell.path)
        if len(cell.queue) < cell.limit and type(message) is not Request:
            cell.queue.append(message)
            if cell.idle:
                cell.wake()
        else:
            self._tell_slowly(message, method)

    def _tell_slowly(self, message: Any, method: str | None) -> None:
        item = Request(message) if type(message) is Request else message
        try:
            self._cell.put(item)
        except ActorError as error:
            if method is not None or not error.target:
                error.note_call(method, self._cell.path, "tell")
            error.note_message(type(message).__name__, self._cell.runtime.new_id)
            raise

    @overload  # type: ignore[override]  # narrower than pykka's: the reply's type comes from the message
    def ask(
        self,
        message: Message[R],
        *,
        block: Literal[True] = True,
        timeout: float | None = None,
        method: str | None = None,
    ) -> R: ...
    @overload
    def ask(
        self,
        message: Message[R],
        *,
        block: Literal[False],
        timeout: float | None = None,
        method: str | None = None,
    ) -> Future[R]: ...
    @overload
    def ask(
        self, message: Any, *, block: Literal[False], timeout: float | None = None, method: str | None = None
    ) -> Future[Any]: ...
    @overload
    def ask(
        self, message: Any, *, block: bool = True, timeout: float | None = None, method: str | None = None
    ) -> Any: ...

    def ask(  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        self,
        message: Any,
        *,
        block: bool = True,
        timeout: float | None = None,
        method: str | None = None,
    ) -> Any:
        """Send a message and wait for the reply, or get a future of it.

        An ask that is made while a handler runs inherits the deadline of what is being handled. If that passes, and
        the ``AskTimeout`` escapes the handler, the actor has not failed: its asker, who has stopped waiting, gets an
        ``AskTimeout`` too. One of a shorter ``timeout`` that the handler gave itself is a failure like any other.

        Args:
            message: what to say; for a ``Message[R]`` the reply is an ``R``.
            block: False returns a ``Future``; ``await`` it in a coroutine.
            timeout: seconds until the ask fails; None, the default: no limit of its own (``ActorSystem.ask`` has
                one). Below 0 is as 0: it has passed already.
            method: the dotted name that an error carries instead of the calling function's.

        Raises:
            AskTimeout: (also a ``pykka.Timeout``) no reply in time.
            SpecInvalid: ``config.timeout.invalid``: the timeout is no number.
            MailboxFull, MailboxClosed, ActorRestarting: it could not be delivered; see ``tell``.
            AskCycle: the asked actor waits, directly or through others, for the one that asks.
            LoopBlocked: a blocking ask on the loop thread that would have to run the actor.
            HandlerFailed: the handler of a supervised actor raised; ``__cause__`` is what it raised.
            Exception: what the handler of an actor without a supervisor raised.
        """
        cell = self._cell
        here = execution.current.get()
        if killing.struck:
            killing.raise_if_struck(here)
        deadline = execution.inherited_deadline(here) if here is not None else None
        if timeout is not None and (type(timeout) is not float or not timeout < INFINITY):
            timeout = self._as_timeout(timeout, "ask", method)
        if timeout is not None:
            own = cell.runtime.clock() + timeout
            deadline = own if deadline is None else min(own, deadline)
        try:
            if not block:
                return self._ask_later(message, deadline, method)
            if forked.happened:
                cell.runtime.refuse_if_forked()
            if cell.idle and cell.dispatcher.assists and here is not cell and cell.claim():
                request: Request[Any] = Request(message, None, deadline)
                if running.can_assist(cell, request, here):
                    return running.assist(cell, request, here)
                cell.settle()  # not here, then
            self._refuse_for_ever(message, here)
            future: Future[Any] = Future()
            future.ground = cell
            if here is None:
                return self._ask_and_wait(message, deadline, future)
            with execution.Blocking(here, cell, future):  # begins before anybody can hear of the question
                return self._ask_and_wait(message, deadline, future)
        except ActorError as error:
            error.note_call(method, cell.path, "ask")
            error.note_message(type(message).__name__, cell.runtime.new_id)
            raise

    def _as_timeout(self, timeout: object, verb: str, method: str | None = None) -> float | None:
        cell = self._cell
        try:
            return as_timeout(timeout, target=cell.path, verb=verb, as_pykka=cell.parent is None)
        except ActorError as error:
            error.note_call(method, cell.path, verb)
            raise

    def _ask_and_wait(self, message: Any, deadline: float | None, future: Future[Any]) -> Any:
        cell = self._cell
        request = Request(message, future, deadline)
        cell.put(request)
        return running.await_reply(cell, request, future)

    def _refuse_for_ever(self, message: Any, here: Party | None) -> None:
        """Refuse what could never be answered, whoever waits for whom."""
        cell = self._cell
        if here is cell:
            raise AskCycle(
                f"{cell.describe()} asks itself and would wait for ever: call the method, or tell",
                actor=cell.path,
                target=cell.path,
                verb="ask",
                message_type=type(message).__name__,
            )
        if cell.dispatcher is execution.host.loop_of:
            raise LoopBlocked(
                f"a blocking ask on the event loop's thread would wait for ever: {cell.describe()} runs on that "
                "loop; write `await ref.ask(message, block=False)`",
                actor=cell.path,
                target=cell.path,
                verb="ask",
                message_type=type(message).__name__,
            )

    def _ask_later(self, message: Any, deadline: float | None, method: str | None) -> Future[Any]:
        cell = self._cell
        future: Future[Any] = Future()
        future.target = cell
        future.method = method or ""
        try:
            if forked.happened:
                cell.runtime.refuse_if_forked()
            request = Request(message, future, deadline)
            if type(message) is ActorStop and cell.alive:
                cell.put_always(request)  # however full the mailbox is
            else:
                cell.put(request)
        except ActorError as error:
            error.note_call(method, cell.path, "ask")
            error.note_message(type(message).__name__, cell.runtime.new_id)
            future.try_fail(error)
            return future
        if deadline is not None and not future.done:
            future.expire_at(deadline, type(message).__name__)
        return future

    def proxy(self: ActorRef[A]) -> pykka.ActorProxy[A]:
        """Make pykka's proxy of the actor: its attributes and methods, through asks.

        Raises:
            MailboxClosed: (also a ``pykka.ActorDeadError``) the actor is gone.
            ActorRestarting: it is between two lives, so that there is nothing to look at; try again.
        """
        try:
            return pykka.ActorProxy(actor_ref=self)
        except pykka.ActorDeadError:
            cell = self._cell
            if not cell.alive:
                raise cell.closed_error("proxy") from None
            raise ActorRestarting(
                f"{cell.describe()} is being restarted, there is nothing to make a proxy of; try again",
                actor=cell.path,
                target=cell.path,
                verb="proxy",
            ) from None

    # --- stopping --------------------------------------------------------------------------------------

    @overload
    def stop(self, *, block: Literal[True], timeout: float | None = None) -> bool: ...
    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> pykka.Future[bool]: ...
    @overload
    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | pykka.Future[bool]: ...

    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | pykka.Future[bool]:
        """Stop the actor for good.

        An actor started pykka's way first handles what came before the stop. A supervised one is stopped by
        its supervisor, which does not restart it: the order overtakes what waits, and the shutdown time of
        its child spec applies; what waited is answered with an error or goes to the dead letters.

        Args:
            block: False returns a future of the result.
            timeout: seconds to wait for it; None for no limit. Below 0 is as 0: it has passed already.

        Returns:
            whether the actor was running; False if it was gone already.

        Raises:
            SpecInvalid: ``config.timeout.invalid``: the timeout is no number.
            ForkedSystem: in a process that was forked after the actor had started.
        """
        parent = self._cell.parent
        timeout = self._as_timeout(timeout, "stop")
        if parent is None:
            return super().stop(block=block, timeout=timeout)
        future: Future[bool] = Future()
        future.target = self._cell
        future.verb = "stop"
        if forked.happened and self._cell.runtime.in_fork:
            future.try_fail(self._cell.runtime.forked_error("stop", self._cell.path))
        elif not self._cell.alive:
            future.try_set(False)
        else:
            parent.signal(StopChild(self._cell, future))
        return future.get(timeout=timeout) if block else future


class StopChild:
    """On a supervisor's control lane: somebody called ``stop`` on the reference of one of its children."""

    __slots__ = ("cell", "future")

    def __init__(self, cell: Cell, future: Future[bool]) -> None:
        self.cell = cell
        self.future = future

    def unheard(self) -> None:
        """The supervisor was gone before it came to the order, and its children with it."""
        self.future.try_set(False)


class Inbox:
    """pykka's view of a mailbox."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def put(self, envelope: Any, /) -> None:
        """Let one of pykka's envelopes wait."""
        item = envelope.message if envelope.reply_to is None else Request(envelope.message, envelope.reply_to)
        self._cell.put(item)

    def get(self) -> Any:
        """Take what waits longest, as one of pykka's envelopes."""
        from pykka._envelope import Envelope

        item = self._cell.queue.popleft()
        return Envelope(item.message, item.reply_to) if type(item) is Request else Envelope(item)

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._cell.queue


def stopped_event(cell: Cell) -> threading.Event:
    """Pykka's ``actor_stopped``: made when first asked for."""
    extras = cell.needs
    event = extras.stopped
    if event is None:
        event = extras.stopped = threading.Event()
        if not cell.alive:
            event.set()
    return event
