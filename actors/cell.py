"""An actor's place: its mailbox, its name and the incarnation that fills it now.

A reference points at the cell, so it outlives restarts: supervisors put one incarnation after another
into the same cell, and what waits in the mailbox waits for the next one.

Who may touch what:

- *The token* (a lock, held by whoever runs the actor) makes "one message at a time, whoever runs it" true. The
  holder owns ``actor``, ``current`` and ``runner``; ``idle`` tells senders that nobody holds it.
- *Senders* only append to ``queue`` and, where they find the cell idle, claim it for the dispatcher.
  ``deque.append`` and ``popleft`` are atomic, so sending takes no lock.
- *Ending* an incarnation is decided under one process-wide lock, for a few instructions, because a supervisor
  may end by force what another thread is running.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Protocol

from pykka.messages import _ActorStop as ActorStop

from ..messages.errors import ActorRestarting, AskTimeout, ErrorKind, MailboxClosed, MailboxFull
from . import execution, killing
from .events import DeadLetter
from .forking import renewed_in_forks
from .future import Future
from .mailbox import Mailbox
from .reasons import NORMAL, ExitReason
from .request import Request

if TYPE_CHECKING:
    from .actor import Actor
    from .dispatch.base import Dispatcher
    from .handlers import HandlerTable
    from .runtime import Runtime

__all__ = ["CLOSED", "RUNNING", "STARTING", "SUSPENDED", "Cell", "Extras"]

STARTING, RUNNING, SUSPENDED, CLOSED = range(4)
"""A cell's states: no incarnation yet or ``on_start`` runs; it handles; between two incarnations; gone for good."""


class Parent(Protocol):
    """Who supervises a cell: another cell, or the system itself above the topmost one."""

    waiting_on: tuple[execution.Party | execution.Wait, ...]

    @property
    def path(self) -> str:
        """Its path; empty above the topmost."""
        ...

    def signal(self, item: Any) -> None:
        """Take word of an exit, or an order, ahead of everything that waits."""


class Extras:
    """What only some actors need; made when first needed, to keep a million plain ones small."""

    __slots__ = (
        "background",
        "deferred",
        "down",
        "ends",
        "handed_on",
        "number",
        "places",
        "stopped",
        "timers",
        "urn",
        "watched",
        "watchers",
    )

    def __init__(self) -> None:
        self.urn: str | None = None
        self.number: int = 0
        self.stopped: threading.Event | None = None
        self.ends: list[Future[ExitReason]] = []
        self.watchers: dict[Cell, None] = {}
        self.watched: dict[Cell, None] = {}
        self.timers: set[Any] = set()
        # Dictionaries as sets in the order of arrival, so that a simulation ends what is in them in that order.
        self.background: dict[Any, None] = {}
        self.deferred: dict[Request[Any], None] = {}
        self.places: dict[str, Cell] = {}
        self.down: list[Callable[[], None]] = []
        self.handed_on: dict[str, Any] = {}  # what the incarnations of this place leave to their successors


class Cell:
    """One actor's place. See the module's description for who may touch what."""

    __slots__ = (
        "actor",
        "actor_class",
        "alias",
        "control",
        "current",
        "depth",
        "dispatcher",
        "extras",
        "handlers",
        "idle",
        "incarnation",
        "latch",
        "limit",
        "name",
        "parent",
        "policy",
        "queue",
        "reason",
        "refuses_between",
        "room_waiters",
        "runner",
        "runtime",
        "slow_until",
        "state",
        "token",
        "waiting_on",
    )

    def __init__(
        self,
        actor_class: type[Actor],
        runtime: Runtime,
        policy: Mailbox,
        *,
        name: str | None = None,
        parent: Parent | None = None,
        refuses_between: bool = False,
    ) -> None:
        self.queue: deque[Any] = deque()
        self.limit = policy.limit
        self.idle = False
        self.token = threading.Lock()
        self.token.acquire()  # whoever makes a cell owns it until its first incarnation runs
        self.control: deque[Any] | None = None
        self.actor: Any = None
        self.handlers: HandlerTable = actor_class._table
        self.current: Any = None
        self.runner = 0
        self.depth = 0
        self.latch: threading.Lock | None = None
        self.waiting_on: tuple[execution.Party | execution.Wait, ...] = ()
        self.room_waiters: deque[_Turn] | None = None
        self.slow_until = 0.0
        self.state = STARTING
        self.incarnation = 0
        self.reason: ExitReason = NORMAL
        self.actor_class = actor_class
        self.runtime = runtime
        self.dispatcher: Dispatcher = runtime.dispatcher_for(actor_class)
        self.policy = policy
        self.name = name
        self.alias: str | None = None
        self.parent: Parent | None = parent
        self.refuses_between = refuses_between
        self.extras: Extras | None = None

    # --- who it is -------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The names from the system's root down to it, such as ``notifications/broker``."""
        own = self.name if self.name is not None else f"{self.actor_class.__name__}-{self._number()}"
        above = self.parent.path if self.parent is not None else ""
        return f"{above}/{own}" if above and own else above or own

    @property
    def needs(self) -> Extras:
        """The extras, made now if there are none."""
        if self.extras is None:
            with _naming:  # a supervisor that ends it may need them at the same moment
                if self.extras is None:
                    self.extras = Extras()
        return self.extras

    @property
    def alive(self) -> bool:
        """Whether it still handles messages, now or after a restart."""
        return self.state != CLOSED

    def _number(self) -> int:
        extras = self.needs
        if not extras.number:
            extras.number = next(self.runtime.numbers)
        return extras.number

    def describe(self) -> str:
        """How it is named in texts: its path, or pykka's ``Class (urn)`` if it was started pykka's way."""
        if self.parent is None:
            return f"{self.actor_class.__name__} ({self.urn})"
        return self.path or f"the supervisor of the system {self.runtime.name!r}"

    @property
    def urn(self) -> str:
        """Pykka's identifier, made when it is first asked for."""
        extras = self.needs
        if extras.urn is None:
            with _naming:
                extras.urn = extras.urn or self.runtime.new_urn()
        return extras.urn

    def raise_if_cancelled(self) -> None:
        """Only work in the background is cancelled (see ``execution.Party``)."""

    # --- claiming and waking ---------------------------------------------------------------------------

    def claim(self) -> bool:
        """Take the token if nobody runs the actor; its holder must run it or give it back."""
        if self.token.acquire(False):
            self.idle = False
            return True
        return False

    def wake(self) -> None:
        """Have it run soon, if nobody runs it yet; what reached a closed mailbox is answered here."""
        if self.token.acquire(False):
            self.idle = False
            self.dispatcher.ready(self)
        elif self.state == CLOSED:
            self.drain()

    def settle(self) -> None:
        """Give the token back at the end of a run, or have the next run scheduled if something waits."""
        if self.queue or self.control:
            self.dispatcher.ready(self)
            return
        self.idle = True
        self.token.release()
        if (self.queue or self.control) and self.claim():
            self.dispatcher.ready(self)

    def signal(self, item: Any, *, first: bool = False) -> None:
        """Put ``item`` on the control lane: it comes before everything that waits, and is never refused."""
        if self.control is None:
            with _naming:
                if self.control is None:
                    self.control = deque()
        if first:
            self.control.appendleft(item)
        else:
            self.control.append(item)
        if self.idle:
            self.wake()

    # --- the mailbox -----------------------------------------------------------------------------------

    def put(self, item: Any) -> None:
        """Let ``item`` wait to be handled; raises what ``offer`` raises."""
        if len(self.queue) < self.limit:
            self.queue.append(item)
            if self.idle:
                self.wake()
        else:
            self.offer(item)

    def put_always(self, item: Any, *, first: bool = False) -> None:
        """Let the runtime's own item wait, whatever the bound. No later message takes its room, either."""
        if self.policy.overflow == "drop_oldest" and type(item) is not Request:
            item = Request(item)  # which nobody waits for: so it is told from what was sent
        if first:
            self.queue.appendleft(item)
        else:
            self.queue.append(item)
        if self.idle:
            self.wake()

    def offer(self, item: Any) -> None:
        """Where ``put`` found no room: apply the overflow policy.

        Raises:
            MailboxClosed: the actor is gone.
            ActorRestarting: it is between two incarnations and set to refuse mail meanwhile.
            MailboxFull: the policy is ``reject``, or ``block`` on a thread that must not wait.
            AskTimeout: the policy is ``block`` and the sender's deadline passed.
        """
        if killing.struck:
            killing.raise_if_struck(execution.current.get())
        message = item.message if type(item) is Request else item
        verb = "ask" if type(item) is Request else "tell"
        kind = type(message).__name__
        self._refuse_if_gone(verb, kind)
        overflow = self.policy.overflow
        if overflow == "drop_newest":
            self._displace(item)
        elif overflow == "drop_oldest":
            self._put_for_the_oldest(item)
        elif overflow == "reject" or not self._wait_for_room(item, verb, kind):
            path = self.path  # put together each time: this may be refused a million times
            who = path if path and self.parent is not None else self.describe()
            raise MailboxFull(
                f"the mailbox of {who} is full: {self.policy.capacity} messages wait",
                actor=path,
                target=path,
                verb=verb,
                message_type=kind,
            )

    def _refuse_if_gone(self, verb: str, kind: str) -> None:
        if self.state == CLOSED:
            raise self.closed_error(verb, kind)
        if self.limit == 0:
            raise ActorRestarting(
                f"{self.describe()} is being restarted and is set to refuse mail meanwhile; try again",
                actor=self.path,
                target=self.path,
                verb=verb,
                message_type=kind,
            )

    def closed_error(self, verb: str, message_type: str = "", *, unhandled: bool = False) -> MailboxClosed:
        """The error for a message to an actor that is gone (``unhandled``: that ended before it came to it)."""
        what = "stopped before handling the message" if unhandled else "not found"
        return MailboxClosed(
            f"{self.describe()} {what}",
            actor=self.path,
            target=self.path,
            verb=verb,
            message_type=message_type,
        )

    def drain(self) -> None:
        """Answer everything that waits in a closed mailbox; any thread may, ``popleft`` is atomic."""
        self._bury_all()
        while self.control:
            try:
                order = self.control.popleft()
            except IndexError:
                break
            unheard = getattr(order, "unheard", None)
            if unheard is not None:
                unheard()
        self.admit(everyone=True)

    def _bury_all(self) -> None:
        """Bury what waits. A stop must not take long because a million messages do: nobody's are only counted."""
        events = self.runtime.events
        watched = events.wanted(DeadLetter)
        lost = 0
        try:
            while self.queue:
                try:
                    item = self.queue.popleft()
                except IndexError:  # another thread took the last one
                    return
                if watched or type(item) is Request:
                    self.bury(item, "closed")
                else:
                    lost += 1
        finally:
            if lost:
                events.count_dead_letters(lost)

    def bury(self, item: Any, reason: str, error: BaseException | None = None) -> None:
        """Answer an item that will not be handled: an ask with an error, a tell as a dead letter."""
        if type(item) is not Request:
            self.runtime.events.dead_letter(self.path, item, reason)
        elif item.reply_to is None:
            if reason != "killed":  # else somebody may run it who asked, and is told (see assisted ask)
                self.runtime.events.dead_letter(self.path, item.message, reason)
        else:
            if type(item.message) is ActorStop:
                item.reply_to.try_set(None)
                return
            item.reply_to.try_fail(error or self.closed_error("ask", type(item.message).__name__, unhandled=True))

    def admit(self, *, everyone: bool = False) -> None:
        """Let a sender that waits for room try again, or all of them."""
        waiters = self.room_waiters
        while waiters:
            try:
                waiters.popleft().come()
            except IndexError:
                return
            if not everyone:
                return

    def _put_for_the_oldest(self, item: Any) -> None:
        """Let ``item`` wait in the place of the oldest that was sent; the runtime's own items stay."""
        own: list[Any] = []
        while len(self.queue) >= self.limit > 0:
            try:
                oldest = self.queue.popleft()
            except IndexError:
                break
            message = oldest.message if type(oldest) is Request else oldest
            if type(message) is ActorStop:
                own.append(oldest)  # pykka's order to stop: what comes behind it is not handled anyway
                self.queue.extendleft(reversed(own))
                self._displace(item)
                return
            if message is oldest or oldest.reply_to is not None:
                self._displace(oldest)
                break
            own.append(oldest)
        self.queue.extendleft(reversed(own))
        self.queue.append(item)
        if self.idle:
            self.wake()

    def _displace(self, item: Any) -> None:
        message = item.message if type(item) is Request else item
        self.bury(
            item,
            "dropped",
            MailboxFull(
                f"the mailbox of {self.describe()} was full: the message was dropped ({self.policy.overflow})",
                kind=ErrorKind.MAILBOX_DROPPED,
                actor=self.path,
                target=self.path,
                verb="ask",
                message_type=type(message).__name__,
            ),
        )

    def _wait_for_room(self, item: Any, verb: str, kind: str) -> bool:
        """Wait until there is room and put ``item`` there. False: this thread must not wait here."""
        here = execution.current.get()
        if here is self or execution.on_event_loop():
            return False
        deadline = item.deadline if type(item) is Request else execution.inherited_deadline(here)
        while not self._put_if_room(item, deadline, here):
            self._refuse_if_gone(verb, kind)
            if deadline is not None and self.runtime.clock() >= deadline:
                error = AskTimeout(
                    f"no room in the mailbox of {self.describe()} before the deadline",
                    actor=self.path,
                    target=self.path,
                    verb=verb,
                    message_type=kind,
                )
                error.deadline = deadline
                raise error
        return True

    def _put_if_room(self, item: Any, deadline: float | None, here: execution.Party | None) -> bool:
        """Wait once for a turn and put ``item`` where there is room then; False: try again, or give up."""
        turn = _Turn()
        with _naming:
            if self.room_waiters is None:
                self.room_waiters = deque()
        self.room_waiters.append(turn)
        try:
            with execution.Blocking(here, self, turn) if here is not None else nullcontext():
                if len(self.queue) >= self.limit > 0:
                    timeout = None if deadline is None else max(0.0, deadline - self.runtime.clock())
                    execution.wait(turn.latch, timeout, self)
            if len(self.queue) >= self.limit:
                return False
            self.put_always(item)
            return True
        finally:
            with suppress(ValueError):  # it had its turn
                self.room_waiters.remove(turn)
            if len(self.queue) < self.limit:
                self.admit()  # whoever leaves room, by giving up or because there is more of it, passes the turn on

    def __repr__(self) -> str:
        state = ("starting", "running", "suspended", "closed")[self.state]
        return f"<Cell {self.path} {state} incarnation={self.incarnation} waiting={len(self.queue)}>"


class _Turn:
    """A sender's place in the line for room. ``done``: its turn has come, which releases ``latch``."""

    __slots__ = ("done", "latch")

    def __init__(self) -> None:
        self.done = False
        self.latch = threading.Lock()
        self.latch.acquire()

    def come(self) -> None:
        self.done = True
        execution.free(self.latch)


_naming = renewed_in_forks(threading.Lock())
ending = renewed_in_forks(threading.Lock())
"""Held for the few instructions in which an incarnation's end is decided."""
