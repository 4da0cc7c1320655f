"""The actor system: what a service embeds. It owns a tree, names, threads and time."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from ..actors import execution, lifecycle
from ..actors.actor import Actor, build
from ..actors.cell import CLOSED, Cell
from ..actors.directory import ref_to
from ..actors.events import EventStream, HandlerAbandoned, SystemStopped, SystemStopping
from ..actors.future import Future
from ..actors.mailbox import Mailbox
from ..actors.reasons import SHUTDOWN, ExitReason
from ..actors.ref import ActorRef
from ..actors.registry import show_tree
from ..actors.runtime import Runtime, Simulation
from ..messages.errors import ActorError, AskTimeout, SpecInvalid
from ..messages.errors import SystemStopped as StoppedError
from ..messages.message import Message
from .child import Child, ChildSpec
from .dynamic import DynamicSupervisor
from .keeper import GAVE_UP
from .logbook import attach_logbook
from .ref import SupervisorRef
from .requests import StartChild, StartedChild
from .root import RootKeeper, StartTree, Top
from .signals import run_until_signal

__all__ = ["ActorSystem", "Outcome"]

A = TypeVar("A", bound=Actor)
R = TypeVar("R")

ASK_TIMEOUT = 5.0
"""Seconds that ``ActorSystem.ask`` waits unless told otherwise (gen_server's default)."""

STOP_TIMEOUT = 30.0
"""Seconds that the whole ordered stop may take; what still runs then is killed."""

DRAIN_POLL = 0.005

MAX_TEMPLATES = 1_000

Outcome = Literal["running", "stopped", "gave_up"]

logger = logging.getLogger("understudy.system")


class ActorSystem:
    """A tree of supervised actors with names, and the threads that run them.

    It starts when it is made, and raises what keeps its tree from starting. Use it as a context manager, or
    call ``stop``. Several systems may live in one process; none lives on in a fork of it.

    Args:
        name: for logs and the names of threads.
        tree: a declared supervisor (or any child spec) that is started below the system.
        dispatcher: a ``SimulatedDispatcher``, to run everything on one thread in virtual time.
        pool_size: how many pooled actors run at once; by default one per core, at least 2, at most 4.
        intensity: how many restarts of ``spawn``-ed actors, all together, there may be within ``period``; one
            more ends the system.
        period: seconds.

    Raises:
        StartFailed: the tree did not start; whatever had started was stopped again.

    Example::

        with ActorSystem("bank") as system:
            account = system.spawn(Account, "ada", name="account")
            system.ask("account", Deposit(7), timeout=1.0)
    """

    def __init__(
        self,
        name: str,
        tree: ChildSpec | None = None,
        *,
        dispatcher: Simulation | None = None,
        pool_size: int | None = None,
        intensity: int = 3,
        period: float = 5.0,
    ) -> None:
        self.name = name
        self.runtime = Runtime(name, simulation=dispatcher, pool_size=pool_size)
        self.outcome: Outcome = "running"
        self.abandoned = 0
        self._ended: Future[None] = Future()
        self._templates: dict[Any, Child] = {}
        self._forced = threading.Event()
        self._stopping = threading.Lock()
        self._detach_log = attach_logbook(self.runtime.events)
        self.events.subscribe(HandlerAbandoned, self._count_abandoned)
        spec = DynamicSupervisor(name, intensity=intensity, period=period)
        self._root = Cell(RootKeeper, self.runtime, Mailbox(capacity=None), name="", parent=Top(self._ended_itself))
        lifecycle.start(self._root, lambda: build(RootKeeper, self._root, (spec, self._ended_itself), {}))
        self._ended.ground = self._root
        show_tree(self, self._all_refs)
        if tree is not None:
            try:
                self.root.ask(StartTree(tree))
            except BaseException:
                self.stop()
                raise

    # --- actors ----------------------------------------------------------------------------------------

    def spawn(
        self,
        actor: type[A] | Callable[..., A] | ChildSpec,
        *args: Any,
        name: str | None = None,
        restart: Literal["permanent", "transient", "temporary"] | None = None,
        shutdown: Any = None,
        mailbox: Mailbox | None = None,
        backoff: Any = None,
        alias: str | None = None,
        **kwargs: Any,
    ) -> ActorRef[A]:
        """Start an actor under the system's own supervisor.

        Args:
            actor: its class, a function that makes one, or a spec (then nothing else is to be given).
            args: positional arguments of its constructor.
            name: its name, which is its path; None: it is reached by its reference only.
            restart: ``permanent`` (unless told otherwise), ``transient`` or ``temporary``; see ``ChildSpec``.
            shutdown: seconds it may take to stop, ``"infinity"`` or ``"brutal_kill"``; 5 seconds.
            mailbox: bound and overflow policy; what its class says, or 10,000 messages and ``reject``.
            backoff: wait between restarts; none.
            alias: a name of its own in the whole system.
            kwargs: keyword arguments of its constructor. Where one has the name of an option of this method,
                give a ``Child`` with ``kwargs``.

        Raises:
            NameTaken: another actor has the name; ``ref`` is its reference.
            StartFailed: its constructor or ``on_start`` raised.
            SpecInvalid: an option is not what it may be.
            SystemStopped: the system is stopping.
        """
        if isinstance(actor, ChildSpec):
            if args or kwargs or name or restart or shutdown or mailbox or backoff or alias:
                raise SpecInvalid("spawn(spec) takes nothing beside the spec: put it all into the spec")
            spec: ChildSpec = actor
        elif name is None and alias is None:
            self._refuse_if_over("spawn")
            template = self._template(actor, restart or "permanent", shutdown, mailbox, backoff)
            return self._started(self.root.ask(StartChild(template, args, kwargs)), actor)
        else:
            spec = Child(
                actor,
                args,
                kwargs,
                name=name,
                restart=restart or "permanent",
                shutdown=shutdown,
                mailbox=mailbox,
                backoff=backoff,
                alias=alias,
            )
        self._refuse_if_over("spawn")
        return self._started(self.root.ask(StartChild(spec)), actor)

    def _template(self, actor: Any, restart: Any, shutdown: Any, mailbox: Any, backoff: Any) -> Child:
        """The spec that all nameless actors of a kind share: a million of them need no million specs."""
        key = (actor, restart, shutdown, mailbox, backoff)
        try:
            template = self._templates.get(key)
        except TypeError:  # something in it cannot be a key: a wrong value, which the spec will refuse
            return Child(actor, restart=restart, shutdown=shutdown, mailbox=mailbox, backoff=backoff)
        if template is None:
            template = Child(actor, restart=restart, shutdown=shutdown, mailbox=mailbox, backoff=backoff)
            if len(self._templates) >= MAX_TEMPLATES:
                self._templates.clear()  # factories made on the fly: let them go
            self._templates[key] = template
        return template

    @staticmethod
    def _started(started: StartedChild, actor: Any) -> ActorRef[Any]:
        if started.ref is None:
            raise SpecInvalid(f"{actor!r} said IGNORE when it was started: there is no actor to refer to")
        return started.ref

    @property
    def root(self) -> SupervisorRef:
        """The reference of the system's own dynamic supervisor, the parent of everything."""
        return SupervisorRef(self._root)

    def lookup(self, path: str) -> ActorRef[Any]:
        """The reference of the actor at ``path`` (or of that alias).

        Raises:
            UnknownActor: there is none; the text names close ones.
        """
        self.runtime.refuse_if_forked()
        return self.runtime.directory.resolve(path)

    def tell(self, target: str | ActorRef[Any], message: Any, *, method: str | None = None) -> None:
        """Send a message to the actor at a path, or of a reference, and wait for nothing.

        Raises:
            UnknownActor: there is no such actor.
            SystemStopped: the system is stopping.
            MailboxFull, MailboxClosed, ActorRestarting: see ``ActorRef.tell``.
        """
        try:
            self._ref(target, "tell").tell(message, method=method)
        except ActorError as error:
            error.note_call(method, str(target), "tell")
            raise

    @overload
    def ask(
        self,
        target: str | ActorRef[Any],
        message: Message[R],
        *,
        block: Literal[True] = True,
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> R: ...
    @overload
    def ask(
        self,
        target: str | ActorRef[Any],
        message: Message[R],
        *,
        block: Literal[False],
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> Future[R]: ...
    @overload
    def ask(
        self,
        target: str | ActorRef[Any],
        message: Any,
        *,
        block: bool = True,
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> Any: ...

    def ask(
        self,
        target: str | ActorRef[Any],
        message: Any,
        *,
        block: bool = True,
        timeout: float | None = ASK_TIMEOUT,
        method: str | None = None,
    ) -> Any:
        """Send a message and wait for the reply, or get an awaitable future of it.

        Args:
            target: a path, or a reference.
            message: what to say; the reply to a ``Message[R]`` is an ``R``.
            block: False returns a ``Future`` at once; its errors come when it is read.
            timeout: seconds until it fails with ``actor.mailbox.timeout``; None for no limit.
            method: the dotted name that an error carries instead of the calling function's.

        Raises:
            UnknownActor: there is no such actor.
            SystemStopped: the system is stopping.
            AskTimeout, MailboxFull, HandlerFailed, AskCycle …: see ``ActorRef.ask``.
        """
        try:
            ref = self._ref(target, "ask")
            return ref.ask(message, block=block, timeout=timeout, method=method)
        except ActorError as error:
            error.note_call(method, str(target), "ask")
            if block:
                raise
            future: Future[Any] = Future()
            future.try_fail(error)
            return future

    # --- what it tells ---------------------------------------------------------------------------------

    @property
    def events(self) -> EventStream:
        """The stream of everything that happens in it."""
        return self.runtime.events

    @property
    def dead_letters(self) -> int:
        """How many messages nobody handled."""
        return self.runtime.events.dead_letters

    def cells(self) -> Iterator[Cell]:
        """The places of all actors, parents before their children."""
        waiting = [self._root]
        while waiting:
            cell = waiting.pop()
            if cell is not self._root:
                yield cell
            keeper = cell.actor
            children = getattr(keeper, "child_cells", None)
            if children is not None:
                waiting.extend(reversed(tuple(children())))

    def _all_refs(self) -> Iterator[ActorRef[Any]]:
        for cell in self.cells():
            yield ref_to(cell)

    # --- the end ---------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it takes messages."""
        return self.outcome == "running" and self._root.state != CLOSED

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the system is down: stopped, or given up by its tree. False: the time (seconds) ran out."""
        try:
            self._ended.get(timeout=timeout)
        except AskTimeout:
            return False
        return True

    def stop(self, *, timeout: float = STOP_TIMEOUT, drain: float = 0.0, cause: str = "stop() was called") -> bool:
        """Stop everything in order: the last started first, each with the time that its spec gives it.

        Args:
            timeout: seconds that all of it may take; what still runs then is killed, and reported.
            drain: seconds to wait first for the mailboxes to run empty; meanwhile the system takes no new
                messages by name and spawns nothing.
            cause: for the event and the log.

        Returns:
            whether everything ended by itself; False if something had to be killed. Called by one of its own
            actors it only begins the stop, and returns True.
        """
        self.runtime.refuse_if_forked()
        here = execution.current.get()
        if here is not None and here.runtime is self.runtime:
            self._stop_elsewhere(cause)
            return True
        if not self._stopping.acquire(blocking=False):
            self.wait()  # somebody else stops it, or has
            return self.abandoned == 0
        try:
            if self.outcome == "running":
                self.outcome = "stopped"
            self.events.publish(SystemStopping(path=self.name, cause=cause))
            clock = self.runtime.clock
            deadline = clock() + timeout
            self._drain(min(drain, timeout))
            self._end_tree(None if timeout == math.inf else max(0.0, deadline - clock()))
            lifecycle.close(self._root, SHUTDOWN)
            show_tree(self, None)
            self.runtime.stop(max(0.1, min(1.0, deadline - clock())))
            self.events.publish(SystemStopped(path=self.name, abandoned=self.abandoned))
            self._detach_log()
        finally:
            self._ended.set()
        return self.abandoned == 0

    def kill(self) -> None:
        """Stop at once: every actor is killed, nothing is waited for. A stop that is under way is cut short."""
        if self.outcome == "running":
            self.outcome = "stopped"
        self._forced.set()
        lifecycle.kill(self._root)  # from the top down: who is killed restarts nobody
        self.stop(timeout=0.5, cause="kill() was called")

    def run(self, *, drain: float = 5.0, timeout: float = STOP_TIMEOUT) -> int:
        """Run until the tree ends or SIGTERM or SIGINT does; see ``run_until_signal``.

        Returns:
            the exit status for the process.
        """
        return run_until_signal(self, drain=drain, timeout=timeout)

    def __enter__(self) -> ActorSystem:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<ActorSystem {self.name!r} {self.outcome}>"

    def _drain(self, seconds: float) -> None:
        if self.runtime.simulation is not None or seconds <= 0:
            return
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(cell.queue or not cell.idle for cell in self.cells()):
            if self._forced.wait(DRAIN_POLL):
                return

    def _end_tree(self, timeout: float | None) -> None:
        try:
            lifecycle.end(self._root, SHUTDOWN).get(timeout=timeout)
        except AskTimeout:
            lifecycle.kill(self._root)

    def _count_abandoned(self, _event: HandlerAbandoned) -> None:
        self.abandoned += 1

    def _ended_itself(self, reason: ExitReason) -> None:
        """The tree, or the root, ended without being told to: so does the system."""
        if self.outcome == "running":
            self.outcome = "gave_up" if reason == GAVE_UP or reason.abnormal else "stopped"
            self._stop_elsewhere(f"the tree ended: {reason}")

    def _stop_elsewhere(self, cause: str) -> None:
        """Stop on a thread of its own: the calling one is running an actor that the stop would wait for."""
        if self.runtime.simulation is not None:
            self.runtime.simulation.run_soon(lambda: self._stop_after(cause))
            return
        threading.Thread(target=self._stop_after, args=(cause,), name=f"{self.name}-stop", daemon=True).start()

    def _stop_after(self, cause: str) -> None:
        try:
            self.stop(cause=cause)
        except Exception:
            logger.exception("Stopping %r failed", self.name)

    def _ref(self, target: str | ActorRef[Any], verb: str) -> ActorRef[Any]:
        self._refuse_if_over(verb)
        if isinstance(target, ActorRef):
            return target
        return self.runtime.directory.resolve(target)

    def _refuse_if_over(self, verb: str) -> None:
        if self.outcome != "running":
            self.runtime.refuse_if_forked()
            raise StoppedError(
                f"the system {self.name!r} is stopping or has stopped ({self.outcome}): it takes no {verb} any more",
                target=self.name,
                verb=verb,
            )
