"""One thread at a time: a seeded scheduler whose threads hand a baton around.

Whoever holds the baton runs, everybody else sleeps. Three kinds of threads take part:

- *Callers*, such as the thread of a test: they wait for something to come true, and everything runs meanwhile.
- *Drivers*, borrowed when needed: each runs one step after another on its own stack.
- *Parked* drivers: a step that waits in its middle (a handler that asks) keeps its stack, and with it its thread;
  another driver goes on. So handlers wait for each other in any order, as they do in production.

A thread is switched only where something waits; otherwise one driver runs step after step. Time passes only
when nothing is left to be done at this moment; then the clock jumps to whatever is due next.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

from ..actors import execution
from ..actors.reasons import ActorKilled
from .drivers import Driver, borrow, give_back
from .virtual_time import VirtualTimers
from .waiter import Deadlock, Endless, Waiter

__all__ = ["Baton", "Step"]

Step = tuple[float, str, str, str]
"""A line of a trace: when (virtual seconds), what, where (an actor's path), and a detail."""

_NOTHING = object()
"""A job for a driver that shall only take the baton up."""

_TIMER = object()
"""What is chosen when a timer that is due is to fire."""


class _Here(threading.local):
    """Whose baton this thread holds."""

    baton: Baton | None = None


_here = _Here()


class Baton:
    """Decides who runs next.

    Args:
        seed: what every choice follows from.
        perform: runs one job that ``add`` was given.
        describe: says of a parked waiter's ``about`` what it waits for.
    """

    def __init__(self, seed: int, perform: Callable[[Any], None], describe: Callable[[Any], str]) -> None:
        self.now = 0.0
        self.steps = 0
        self.trace: list[Step] = []
        self.timers = VirtualTimers()
        self.parked: list[Waiter] = []
        self._draw = random.Random(seed).random
        self._perform = perform
        self._describe = describe
        self._jobs: list[Any] = []
        self._callers: list[Waiter] = []
        self._guard = threading.Lock()
        self._driven = False
        self._stopping = False
        self._escaped: BaseException | None = None

    def add(self, job: Any) -> None:
        """Let ``job`` be performed as a step of its own, once it is chosen."""
        if not self._stopping:
            self._jobs.append(job)

    def report(self, error: BaseException) -> None:
        """Let whoever waits next know of an error that no actor answers for."""
        self._escaped = error

    @property
    def inside(self) -> bool:
        """Whether the calling thread is one of the drivers; then it holds the baton."""
        return _here.baton is self

    def wait(self, waiter: Waiter) -> bool:
        """Let others run until what ``waiter`` waits for is there. Returns False if its deadline came first.

        Raises:
            Deadlock: (callers only) there is no deadline, and nothing is left that could run.
            Endless: (callers only) ``waiter.last_step`` was reached.
            ActorKilled: (drivers only) the simulation is being stopped.
        """
        if self.inside:
            self.trace.append((self.now, "wait", waiter.who, ""))
            self.parked.append(waiter)
            self._pass_on(self._next(waiter), waiter)
            self.trace.append((self.now, "resume", waiter.who, ""))
        else:
            self._call(waiter)
        if waiter.error is not None:
            raise waiter.error
        return waiter.latch.acquire(blocking=False) if waiter.latch is not None else waiter.came

    def stop(self) -> None:
        """Perform nothing any more; steps that wait in their middle get ``ActorKilled``.

        Called by a driver it returns at once, and they get it when that driver is done.

        Raises:
            Endless: some go on waiting whatever they get.
        """
        self._stopping = True
        self._jobs.clear()
        self.timers.stop()
        if self.parked and not self.inside:
            self._call(Waiter(deadline=self.now, last_step=self.steps + 100 * len(self.parked)))

    # --- handing over ----------------------------------------------------------------------------------

    def _call(self, waiter: Waiter) -> None:
        """Wait on a thread from outside, which takes the baton up if nobody has it."""
        with self._guard:
            self._callers.append(waiter)
            holds, self._driven = not self._driven, True
        try:
            chosen = self._next(waiter) if holds else None
            holds = False
            self._pass_on(chosen, waiter)
        except BaseException:  # an interrupt (Ctrl-C, a time-out of the test) reached this thread: nobody waits here
            with self._guard:
                if waiter in self._callers:
                    self._callers.remove(waiter)
                if holds:
                    self._driven = False
            raise

    def _pass_on(self, chosen: Any, me: Waiter) -> None:
        """Give the baton to whoever was chosen, and return when it has come to ``me``."""
        if chosen is me:
            return
        if isinstance(chosen, Waiter):
            chosen.gate.release()
        elif chosen is not None:
            self._let_drive(chosen)
        me.gate.acquire()

    def _let_drive(self, job: Any) -> None:
        """Give the baton to a driver that has nothing on its stack."""
        borrow(lambda driver: self._drive(driver, job))

    def _drive(self, driver: Driver, chosen: Any) -> None:
        _here.baton = self
        while chosen is not None and type(chosen) is not Waiter:
            if chosen is not _NOTHING:
                self._run(chosen)
            chosen = self._next(None)
        give_back(driver)
        if chosen is not None:
            chosen.gate.release()

    def _run(self, job: Any) -> None:
        self.steps += 1
        try:
            self._perform(job)
        except BaseException as error:
            self.report(error)

    def _fire(self) -> None:
        """Fire the timer that is due first, as nobody in particular, whoever's stack this is."""
        self.steps += 1
        self.trace.append((self.now, "timer", "", ""))
        previous = execution.current.set(None)
        try:
            self.timers.fire_next()
        finally:
            execution.current.reset(previous)

    # --- choosing --------------------------------------------------------------------------------------

    def _next(self, me: Waiter | None) -> Any:
        """The waiter that gets the baton, or the job to be run next; None: nobody waits, so nothing runs.

        Args:
            me: whose thread this is; None on a driver that has nothing on its stack.
        """
        while True:
            caller = self._served_caller()
            if caller is None:
                if not self._callers and self._retire():
                    return None
                chosen = self._draw_one()
                if chosen is _TIMER:
                    self._fire()
                    continue
                if chosen is not None:
                    return chosen
                caller = self._let_time_pass()
            if caller is not None and self._dismiss(caller, me):
                return caller

    def _dismiss(self, caller: Waiter, me: Waiter | None) -> bool:
        """Let a caller go on. Returns whether it takes the baton with it: it does if nobody else calls."""
        with self._guard:
            if caller not in self._callers:  # interrupted just now
                return False
            self._callers.remove(caller)
            self._driven = bool(self._callers)
        if not self._driven:
            return True
        if caller is me:
            self._let_drive(_NOTHING)
            return True
        caller.gate.release()
        return False

    def _retire(self) -> bool:
        """Let the baton lie if nobody calls: interrupted callers left without a word."""
        with self._guard:
            self._driven = bool(self._callers) or (self._stopping and bool(self.parked))
        return not self._driven

    def _served_caller(self) -> Waiter | None:
        for caller in self._callers:
            if self._escaped is not None:
                caller.error, self._escaped = self._escaped, None
            elif caller.served():
                pass
            elif caller.last_step is not None and self.steps >= caller.last_step:
                caller.error = Endless(f"still busy after {self.steps} steps, at {self.now:g} s\n{self.tail()}")
            else:
                continue
            return caller
        return None

    def _draw_one(self) -> Any:
        """Choose among everything that can run now; None if there is nothing."""
        jobs, now = self._jobs, self.now
        free: list[Waiter] = []
        if self.parked:
            free = [each for each in self.parked if self._may_go_on(each)]
        due = self.timers.next_due
        total = len(jobs) + len(free) + (due is not None and due <= now)
        if total == 0:
            return None
        pick = int(self._draw() * total) if total > 1 else 0
        if pick < len(jobs):
            job = jobs.pop()
            if pick < len(jobs):
                jobs[pick], job = job, jobs[pick]
            return job
        if pick < len(jobs) + len(free):
            waiter = free[pick - len(jobs)]
            self.parked.remove(waiter)
            return waiter
        return _TIMER

    def _may_go_on(self, waiter: Waiter) -> bool:
        if self._stopping:
            waiter.error = ActorKilled()
            return True
        return waiter.served() or (waiter.deadline is not None and waiter.deadline <= self.now)

    def _let_time_pass(self) -> Waiter | None:
        """Nothing is left to be done now: a caller whose time has come, or else the clock moves on."""
        for caller in self._callers:
            if caller.deadline is not None and caller.deadline <= self.now:
                return caller
        moments = [each.deadline for each in (*self._callers, *self.parked) if each.deadline is not None]
        if self.timers.next_due is not None:
            moments.append(self.timers.next_due)
        if moments:
            self.now = min(moments)
            self.trace.append((self.now, "time", "", ""))
            return None
        caller = self._callers[0]
        caller.error = Deadlock(self._deadlock_text())
        return caller

    # --- reports ---------------------------------------------------------------------------------------

    def tail(self, count: int = 30) -> str:
        """The last steps of the trace, a line each."""
        lines = [
            f"  {at:12.6f}  {what:<8} {where} {detail}".rstrip() for at, what, where, detail in self.trace[-count:]
        ]
        return "\n".join(lines)

    def _deadlock_text(self) -> str:
        waiting = "".join(
            f"\n  {each.who or 'somebody'} waits for {self._describe(each.about)}" for each in self.parked
        )
        return f"deadlock: nothing left to run, at {self.now:g} s{waiting}\nthe last steps:\n{self.tail()}"
