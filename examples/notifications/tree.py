"""The tree that the example runs: what a service of one's own would declare."""

from __future__ import annotations

import threading

from understudy import Actor, Backoff, Child, Mailbox, Message, Supervisor, handles
from understudy.actors.broker.actor import Broker
from understudy.actors.cache.actor import Cache
from understudy.actors.lock.actor import Lock
from understudy.actors.mutator.actor import Mutator
from understudy.messages import NotifData


class Sabotage(Message[None]):
    """Make an actor fall."""

    why: str


class FragileMutator(Mutator):
    """The mutator, with a way to make it crash on purpose."""

    @handles
    def sabotage(self, message: Sabotage) -> None:
        raise RuntimeError(message.why)


class Push(Message[str]):
    """Push a notification to its receiver's device; answered with a receipt."""

    notif: NotifData


class Courier(Actor):
    """Pushes notifications to devices, one at a time, and only while the gate is open."""

    dispatcher = "thread"

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self.gate = gate

    @handles
    def push(self, message: Push) -> str:
        self.gate.wait()
        return f"receipt:{message.notif.id}"


COURIER_CAPACITY = 20


def declare(store_url: str | None, gate: threading.Event) -> Supervisor:
    """Broker, mutator, cache, lock and courier under one supervisor; the environment may name other backends."""
    return Supervisor(
        "notifications",
        strategy="one_for_one",
        children=[
            Child(Cache, name="cache"),
            Child(FragileMutator, name="mutator", args=(store_url,), backoff=Backoff(0.05, 5.0)),
            Child(Lock, name="lock"),
            Child(Courier, name="courier", args=(gate,), mailbox=Mailbox(COURIER_CAPACITY, "reject")),
            Child(Broker, name="broker", mailbox=Mailbox(10_000, "reject")),
        ],
    )
