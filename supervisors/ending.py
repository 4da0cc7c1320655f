"""How a system ends: once, in order and in time; and what cuts that short."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from ..actors import execution, lifecycle
from ..actors.cell import RUNNING, STARTING, Cell
from ..actors.events import BackgroundAbandoned, HandlerAbandoned, SystemStopped, SystemStopping
from ..actors.future import Future
from ..actors.reasons import SHUTDOWN, ExitReason
from ..actors.ref import StopChild
from ..actors.runtime import Runtime
from ..actors.timeouts import as_seconds, as_timeout
from ..messages.errors import AskTimeout
from .keeper import GAVE_UP

__all__ = ["STOP_TIMEOUT", "Ending", "Outcome"]

Outcome = Literal["running", "stopped", "gave_up"]

DRAIN_POLL = 0.005
"""Seconds between two looks at whether the mailboxes are empty."""

KILL_TIMEOUT = 0.5
"""Seconds that a killed tree gets to be gone; it needs time only to find a thread."""

KILL_POLL = 0.05

FORCE_TIMEOUT = 10.0
"""Seconds that a forced end may take altogether: killing the tree, and waiting for all kinds of threads."""

MAX_LEFT = 10
"""How many of those that did not end are named."""

STOP_TIMEOUT = 30.0
"""Seconds that the whole ordered stop may take; what still runs then is killed."""

THREADS_TIMEOUT = 1.0
"""Seconds that idle threads get to end."""

logger = logging.getLogger("understudy.system")


class Ending:
    """The end of one system. Any thread may begin it, only the first does it, and all others wait for that.

    Args:
        name: the system's name.
        runtime: what its actors run on; stopped at the end.
        root: the place at the top of its tree.
        cells: lists the places of all its actors.
        clean_up: called when the tree is gone, before everybody is told.

    Attributes:
        outcome: ``running``; ``stopped`` as soon as a stop begins; ``gave_up`` if the tree ended by itself because
            restarts did not help.
        abandoned: how many handlers were ended by force so far, and how much work in the background was given up.
        left_behind: how many of them while the system stopped.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        root: Cell,
        cells: Callable[[], Iterator[Cell]],
        clean_up: Callable[[], None],
    ) -> None:
        self.outcome: Outcome = "running"
        self.abandoned = 0
        self.left_behind = 0
        self._name = name
        self._runtime = runtime
        self._root = root
        self._cells = cells
        self._clean_up = clean_up
        self._change = threading.Lock()
        self._stopper = 0
        self._down = self._new_future()
        self._hurry = self._new_future()
        runtime.events.subscribe(HandlerAbandoned, self._count)
        runtime.events.subscribe(BackgroundAbandoned, self._count)

    # --- what it is asked ------------------------------------------------------------------------------

    @property
    def inside(self) -> bool:
        """Whether the calling code is run by this system: by an actor of it, or by work in its background."""
        here = execution.current.get()
        return here is not None and here.runtime is self._runtime

    @property
    def over(self) -> bool:
        """Whether the system is down."""
        return self._down.done

    def on_down(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once the system is down."""
        self._down.on_done(callback)

    def wait(self, timeout: float | None) -> bool:
        """Wait (seconds) until the system is down; False: the time ran out."""
        timeout = as_timeout(timeout, verb="wait")
        try:
            self._down.get(timeout=timeout)
        except AskTimeout:
            return False
        return True

    # --- what begins it --------------------------------------------------------------------------------

    def stop(self, timeout: float | None, drain: float | None, cause: str) -> bool:
        """See ``ActorSystem.stop``."""
        timeout = as_seconds(timeout, verb="stop")
        drain = as_seconds(drain, name="drain", verb="stop")
        self._runtime.refuse_if_forked("stop")
        first = self._begin("stopped")
        if self.inside:
            if first:
                self._elsewhere(lambda: self._run(timeout, drain, cause))
            return True
        if first:
            self._run(timeout, drain, cause)
        elif self._stopper == threading.get_ident():  # a subscriber to one of the stop's own events
            return True
        elif not self.wait(timeout):
            self._insist()
        return self.over and self.left_behind == 0

    def stop_root(self, order: StopChild) -> None:
        """Somebody called ``stop`` on the reference of the root, which is the system: answered once that is down."""
        if self._begin("stopped"):
            self._elsewhere(lambda: self._run(STOP_TIMEOUT, 0.0, "its root was told to stop"))
        self.on_down(partial(_answer, order.future))

    def kill(self, cause: str) -> None:
        """See ``ActorSystem.kill``."""
        self._runtime.refuse_if_forked("kill")
        first = self._begin("stopped")
        if self.inside:  # whoever is killed cannot go on to kill the others
            self._elsewhere(lambda: self._kill(first, cause))
        else:
            self._kill(first, cause)

    def ended_itself(self, reason: ExitReason) -> None:
        """The tree, or the root, ended without being told to: so does the system."""
        if self._begin("gave_up" if reason is GAVE_UP or reason.abnormal else "stopped"):
            self._elsewhere(lambda: self._run(math.inf, 0.0, f"the tree ended: {reason}"))

    def _begin(self, outcome: Outcome) -> bool:
        """Whether the caller is the first, who then has to do it."""
        with self._change:
            if self.outcome != "running":
                return False
            self.outcome = outcome
            return True

    def _elsewhere(self, job: Callable[[], None]) -> None:
        """Do it on a thread of its own: the calling one is running an actor that the stop would wait for."""

        def carefully() -> None:
            try:
                job()
            except Exception:
                logger.exception("Stopping %r failed", self._name)

        if self._runtime.simulation is not None:
            self._runtime.simulation.run_soon(carefully)
        else:
            threading.Thread(target=carefully, name=f"{self._name}-stop", daemon=True).start()

    # --- how it goes -----------------------------------------------------------------------------------

    def _run(self, timeout: float, drain: float, cause: str) -> None:
        runtime, root = self._runtime, self._root
        self._stopper = threading.get_ident()
        deadline = runtime.clock() + timeout
        before = self.abandoned
        try:
            runtime.events.publish(SystemStopping(path=self._name, cause=cause))
            self._drain(min(drain, timeout))
            self._end_tree(deadline)
        except BaseException:  # a second Ctrl-C on the thread that stops: be quick then
            self._force()
            raise
        finally:
            try:
                lifecycle.close(root, SHUTDOWN)
                runtime.stop(THREADS_TIMEOUT)
                self.left_behind = self.abandoned - before
                runtime.events.publish(SystemStopped(path=self._name, abandoned=self.left_behind))
                self._clean_up()
            finally:
                self._stopper = 0
                self._down.try_set(None)

    def _kill(self, first: bool, cause: str) -> None:
        if first:
            self._force()
            self._run(KILL_TIMEOUT, 0.0, cause)
        elif self._stopper != threading.get_ident():
            self._insist()
        else:
            self._force()

    def _insist(self) -> None:
        """Kill what runs until the system is down, or time is up: somebody else's code may hold up who stops it."""
        give_up = self._runtime.clock() + FORCE_TIMEOUT
        self._force()
        while not self.wait(KILL_POLL):
            if self._runtime.clock() >= give_up:
                logger.error("%r does not end: %s", self._name, self._left())
                return
            lifecycle.kill(self._root)

    def _left(self) -> str:
        """What has not ended, for the log."""
        paths = [cell.path for cell in self._cells() if cell.actor is not None]
        more = f" and {len(paths) - MAX_LEFT} more" if len(paths) > MAX_LEFT else ""
        return f"still there: {', '.join(paths[:MAX_LEFT])}{more}" if paths else "all its actors have ended"

    def _force(self) -> None:
        """Kill what runs, from the top down: who is killed restarts nobody."""
        self._hurry.try_set(None)
        lifecycle.kill(self._root)

    def _drain(self, seconds: float) -> None:
        """Wait until nothing is left to be handled."""
        clock = self._runtime.clock
        until = clock() + seconds
        # What is handed from one actor to another can be overlooked once, since not all are looked at at once.
        while clock() < until and (self._busy() or self._busy()):
            try:
                self._hurry.get(timeout=min(DRAIN_POLL, until - clock()))
            except AskTimeout:
                continue
            return

    def _busy(self) -> bool:
        return _is_busy(self._root) or any(map(_is_busy, self._cells()))

    def _end_tree(self, deadline: float) -> None:
        """End everything by ``deadline`` (the system's clock): in order if there is time, or else by force."""
        root, clock = self._root, self._runtime.clock
        ending = lifecycle.end(root, SHUTDOWN)
        give_up = deadline + KILL_TIMEOUT
        while True:
            try:
                ending.get(timeout=None if deadline == math.inf else max(0.0, deadline - clock()))
                return
            except AskTimeout:
                lifecycle.kill(root)
                if clock() >= give_up:
                    logger.error("The tree of %r does not end: %s", self._name, self._left())
                    lifecycle.evict(root)
                    return
                deadline = clock() + KILL_POLL

    def _new_future(self) -> Future[None]:
        future: Future[None] = Future()
        future.ground = self._root
        return future

    def _count(self, _event: HandlerAbandoned | BackgroundAbandoned) -> None:
        with self._change:
            self.abandoned += 1


def _answer(stopped: Future[bool]) -> None:
    stopped.try_set(True)


def _is_busy(cell: Cell) -> bool:
    """Whether something is handled there now, waits to be, or was and is still to be answered."""
    if cell.queue or (cell.state in (STARTING, RUNNING) and not cell.idle):
        return True
    return cell.extras is not None and bool(cell.extras.deferred)
