"""The actor system: what a service embeds. It owns a tree, names, threads and time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from ..actors import lifecycle
from ..actors.actor import build
from ..actors.cell import CLOSED, Cell
from ..actors.directory import ref_to
from ..actors.events import EventStream
from ..actors.mailbox import Mailbox
from ..actors.reasons import ExitReason
from ..actors.ref import ActorRef, StopChild
from ..actors.registry import show_tree
from ..actors.runtime import Runtime, Simulation
from ..messages.errors import ErrorKind, SpecInvalid
from ..messages.redact import repr_of
from .child import Child, ChildSpec, is_name
from .dynamic import DynamicSupervisor
from .ending import STOP_TIMEOUT, Ending, Outcome
from .logbook import attach_logbook
from .parts import supervise
from .ref import SupervisorRef
from .root import RootKeeper, StartTree, Top
from .signals import Signals, run_until_signal
from .starting import Starting
from .tree import TreeNode, tree_of

__all__ = ["ActorSystem", "Outcome"]


class ActorSystem(Starting):
    """A tree of supervised actors with names, and the threads that run them.

    It starts when it is made, and raises what keeps its tree from starting. Use it as a context manager, or
    call ``stop``. Several systems may live in one process; none lives on in a fork of it.

    Args:
        name: for logs and the names of threads.
        tree: a declared supervisor (or any child spec) that is started below the system. Where it ends, the
            system does.
        dispatcher: a ``SimulatedDispatcher``, to run everything on one thread in virtual time.
        pool_size: how many pooled actors run at once; by default one per core, at least 2, at most 4.
        intensity: how many restarts of ``spawn``-ed actors, all together, there may be within ``period``; one
            more ends the system.
        period: seconds.

    Raises:
        StartFailed: the tree did not start; whatever had started was stopped again.
        SpecInvalid: an argument is not what it may be.

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
        _check(name, tree, pool_size)
        spec = DynamicSupervisor(name, intensity=intensity, period=period)
        self.name = name
        self.runtime = Runtime(name, simulation=dispatcher, pool_size=pool_size)
        self.runtime.supervise = supervise
        self._templates: dict[Any, Child] = {}
        self._root = Cell(
            RootKeeper, self.runtime, Mailbox(capacity=None), name="", parent=Top(self._ended, self._stop_root)
        )
        self._ending = Ending(name, self.runtime, self._root, self.cells, self._clean_up)
        self._detach_log = attach_logbook(self.runtime.events, name)
        lifecycle.start(self._root, lambda: build(RootKeeper, self._root, (spec, self._ended), {}))
        show_tree(self, self._all_refs)
        if tree is not None:
            try:
                self.root.ask(StartTree(tree))
            except BaseException:
                self.stop(cause="its tree did not start")
                raise

    # --- what it tells ---------------------------------------------------------------------------------

    @property
    def root(self) -> SupervisorRef:
        """The reference of the system's own dynamic supervisor, the parent of everything. Its path is empty.

        Its ``stop()`` stops the system.
        """
        return SupervisorRef(self._root)

    @property
    def events(self) -> EventStream:
        """The stream of everything that happens in it."""
        return self.runtime.events

    @property
    def dead_letters(self) -> int:
        """How many messages nobody handled."""
        return self.runtime.events.dead_letters

    @property
    def outcome(self) -> Outcome:
        """``running``; ``stopped`` as soon as a stop begins; ``gave_up`` if restarts did not help its tree."""
        return self._ending.outcome

    @property
    def abandoned(self) -> int:
        """How many handlers were ended by force so far, and how many background works went on though cancelled."""
        return self._ending.abandoned

    @property
    def left_behind(self) -> int:
        """How many of them while it stopped."""
        return self._ending.left_behind

    @property
    def running(self) -> bool:
        """Whether it takes messages from outside."""
        return self._ending.outcome == "running" and self._root.state != CLOSED

    @property
    def down(self) -> bool:
        """Whether it has ended."""
        return self._ending.over

    def tree(self) -> TreeNode:
        """What runs where at this moment; ``print(system.tree())`` draws it."""
        return tree_of(self._root, self.name)

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

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the system is down: stopped, or given up by its tree. False: the time (seconds) ran out."""
        return self._ending.wait(timeout)

    def stop(
        self,
        *,
        timeout: float | None = STOP_TIMEOUT,
        drain: float | None = 0.0,
        cause: str = "stop() was called",
    ) -> bool:
        """Stop everything in order: the last started first, each with the time that its spec gives it.

        From now on the system takes nothing from outside, and spawns nothing; its own actors may go on talking
        to each other until their turn to stop has come.

        Args:
            timeout: seconds that all of it may take, None for no limit; what still runs then is killed, and
                reported.
            drain: seconds to wait first until the mailboxes are empty and every ask is answered; None for no limit
                but the other one.
            cause: for the event and the log.

        Returns:
            whether everything ended by itself; False if something had to be killed. Called by one of its own
            actors it only begins the stop, and returns True. Called while another call stops the system it waits
            for that, and forces it when its own time is up.

        Raises:
            SpecInvalid: ``config.timeout.invalid``: a time is no number.
            ForkedSystem: in a process that was forked after the system had started.
        """
        return self._ending.stop(timeout, drain, cause)

    def kill(self) -> None:
        """Stop at once: every actor is killed, nothing is waited for. A stop that is under way is cut short.

        Raises:
            ForkedSystem: in a process that was forked after the system had started.
        """
        self._ending.kill("kill() was called")

    def run(self, *, drain: float | None = 5.0, timeout: float | None = STOP_TIMEOUT) -> int:
        """Run until the tree ends or SIGTERM or SIGINT does; see ``run_until_signal``.

        Returns:
            the exit status for the process.
        """
        return run_until_signal(self, drain=drain, timeout=timeout)

    @classmethod
    def serve(
        cls, name: str, tree: ChildSpec, *, drain: float | None = 5.0, timeout: float | None = STOP_TIMEOUT, **more: Any
    ) -> int:
        """Start a system and run it, as ``ActorSystem(name, tree).run()``; signals count from the very beginning.

        What a signal finds half started is started, and then stopped in order; a second one meanwhile ends the
        process. Call it on the main thread.

        Args:
            name: the system's.
            tree: what it runs.
            drain: see ``run``.
            timeout: see ``run``.
            more: what else ``ActorSystem`` takes.

        Returns:
            the exit status for the process.

        Raises:
            StartFailed: the tree did not start.
            SpecInvalid: an argument is not what it may be.
            ValueError: not called on the main thread.
        """
        with Signals() as signals:
            signals.starting = True
            system = cls(name, tree, **more)
            signals.starting = False
            return run_until_signal(system, drain=drain, timeout=timeout, signals=signals)

    def on_down(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the system is down, on whichever thread ends it."""
        self._ending.on_down(callback)

    def __enter__(self) -> ActorSystem:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.runtime.in_fork:  # a fork that leaves the block leaves the system to its parent
            self.stop()

    def __repr__(self) -> str:
        return f"<ActorSystem {self.name!r} {self.outcome}>"

    def _stop_root(self, order: StopChild) -> None:
        self._ending.stop_root(order)

    def _ended(self, reason: ExitReason) -> None:
        self._ending.ended_itself(reason)

    def _clean_up(self) -> None:
        show_tree(self, None)
        self._detach_log()


def _check(name: object, tree: object, pool_size: object) -> None:
    """Refuse what cannot be, before anything is started."""
    if name is None or not is_name(name):
        raise _invalid(f"name={repr_of(name)}: give a text without '/'")
    if tree is not None and not isinstance(tree, ChildSpec):
        raise _invalid(f"tree={repr_of(tree)}: give a Supervisor(...), or another child spec")
    good = isinstance(pool_size, int) and not isinstance(pool_size, bool) and pool_size >= 1
    if pool_size is not None and not good:
        raise _invalid(f"pool_size={repr_of(pool_size)}: give a whole number of threads, 1 or more, or None")


def _invalid(text: str) -> SpecInvalid:
    return SpecInvalid(f"ActorSystem: {text}", kind=ErrorKind.SUPERVISOR_FLAGS_INVALID)
