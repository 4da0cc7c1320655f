"""Applying a fault to the message that an actor is about to handle."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pykka.messages import _ActorStop as ActorStop

from ..actors import execution
from ..actors.handlers import HandlerTable
from ..actors.request import Request
from ..actors.timers import Timer
from .faults import Fault, FaultPlan, InjectedCrash

if TYPE_CHECKING:
    from ..actors.cell import Cell
    from .baton import Baton

__all__ = ["Striker"]


class Striker:
    """Asks the plan about every message, and makes happen what it says."""

    def __init__(self, plan: FaultPlan, baton: Baton, chance: random.Random) -> None:
        self._faults = tuple(plan.faults)
        self._seen = [0] * len(self._faults)
        self._struck = [0] * len(self._faults)
        self._baton = baton
        self._chance = chance
        self._spared: dict[int, Request[Any]] = {}

    def admits(self, cell: Cell, path: str, item: Any) -> bool:
        """Let a fault strike ``item``, which waits first in the mailbox of ``cell``.

        Returns:
            whether it is to be handled now, by its handler or by what stands in for it.
        """
        message = item.message if type(item) is Request else item
        if self._spared.pop(id(item), None) is not None or type(message) is ActorStop or self._is_late(item):
            return True
        fault = self._choose(path, cell.actor_class, message)
        if fault is None:
            return True
        self._baton.trace.append((self._baton.now, fault.kind, path, type(message).__name__))
        if fault.kind == "duplicate":
            cell.queue.insert(1, self._spare(Request(message)))
        elif fault.kind in ("drop", "delay"):
            cell.queue.popleft()
            cell.admit()
            if fault.kind == "delay":
                self._deliver_later(cell, item if type(item) is Request else Request(message), fault.seconds)
            cell.settle()
            return False
        else:
            _stand_in(cell, fault, type(message))
        return True

    def _choose(self, path: str, actor_class: type, message: Any) -> Fault | None:
        """The first fault that strikes the message; those before it count it, too."""
        for number, fault in enumerate(self._faults):
            if not fault.matches(path, actor_class, message):
                continue
            self._seen[number] += 1
            if self._seen[number] < fault.at or (fault.times is not None and self._struck[number] >= fault.times):
                continue
            if fault.rate < 1.0 and self._chance.random() >= fault.rate:
                continue
            self._struck[number] += 1
            return fault
        return None

    def _is_late(self, item: Any) -> bool:
        """Whether nobody waits for it any more, so that the run loop will not hand it to the handler."""
        if type(item) is not Request:
            return False
        late = item.deadline is not None and item.deadline < self._baton.now
        return late or (item.reply_to is not None and item.reply_to.done)

    def _spare(self, request: Request[Any]) -> Request[Any]:
        """No fault shall strike it (again)."""
        self._spared[id(request)] = request
        return request

    def _deliver_later(self, cell: Cell, request: Request[Any], seconds: float) -> None:
        def deliver() -> None:
            if cell.alive:
                cell.put_always(self._spare(request))
            else:
                cell.bury(request if request.reply_to is not None else request.message, "closed")

        self._baton.timers.add(Timer(self._baton.now + seconds, deliver))


def _stand_in(cell: Cell, fault: Fault, message_type: type) -> None:
    """Put another handler in the place of the one for ``message_type``, for one call."""
    table = cell.handlers

    def original(actor: Any, message: Any) -> Any:
        handler = table.handlers.get(message_type) or table.adopt(message_type)
        return actor._handle_receive(message) if handler is None else handler(actor, message)

    def crash(actor: Any, message: Any) -> Any:
        cell.handlers = table
        raise InjectedCrash("a fault plan let it crash") if fault.error is None else fault.error()

    def take_time(actor: Any, message: Any) -> Any:
        cell.handlers = table
        latch = threading.Lock()
        latch.acquire()
        execution.wait(latch, None if fault.kind == "hang" else fault.seconds, cell)
        return original(actor, message)

    async def take_time_on_the_loop(actor: Any, message: Any) -> Any:
        cell.handlers = table
        if fault.kind == "hang":
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(fault.seconds)
        value = original(actor, message)
        return await value if asyncio.iscoroutine(value) else value

    stand_in: Callable[[Any, Any], Any] = crash
    if fault.kind != "crash":
        stand_in = take_time if asyncio._get_running_loop() is None else take_time_on_the_loop
    cell.handlers = HandlerTable()
    cell.handlers.handlers[message_type] = stand_in
