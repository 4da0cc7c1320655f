"""A process that acquires a lock again and again, writes under it, and now and then stops itself past its lease.

It is started by `test_stalled_holders`, talks in JSON lines, and is not a test.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from typing import Any

from understudy import ActorSystem
from understudy.actors.lock.actor import Lock
from understudy.actors.mutator.actor import Mutator
from understudy.messages import (
    AcquireLock,
    ActorError,
    Lease,
    LockError,
    NotifData,
    ReleaseLock,
    StorageError,
    StoreNotifEvent,
)


def say(what: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"what": what, "at": time.monotonic(), **fields}) + "\n")
    sys.stdout.flush()


def main(lock_url: str, store_url: str, name: str, turns: int, stalls: int, lease: float) -> None:
    chance = random.Random(name)
    stalled_turns = set(chance.sample(range(turns), stalls))
    with ActorSystem(name) as system:
        lock = system.spawn(Lock, lock_url, name="lock")
        mutator = system.spawn(Mutator, store_url, name="mutator")
        say("ready")
        sys.stdin.readline()
        for turn in range(turns):
            asked = time.monotonic()
            held: Lease = lock.ask(AcquireLock("ledger", name, lease=lease, wait=60))
            say("granted", token=held.token, asked=asked)
            if turn in stalled_turns:
                say("stalls", token=held.token)
                os.kill(os.getpid(), signal.SIGSTOP)
            notif = NotifData(id=f"{held.token}", receiver_info="1", action_data=None, actioner_info=name, fired_at=1)
            try:
                mutator.ask(StoreNotifEvent(message=notif, fence=held.fence))
                say("wrote", token=held.token)
            except StorageError as error:
                say("refused", token=held.token, kind=error.kind)
            try:
                lock.ask(ReleaseLock("ledger", held.token))
                say("released", token=held.token)
            except LockError as error:
                say("lost", token=held.token, kind=error.kind)
            except ActorError as error:
                say("failed", token=held.token, kind=error.kind)
        say("done")


if __name__ == "__main__":
    url, store, own_name, all_turns, all_stalls, seconds = sys.argv[1:]
    main(url, store, own_name, int(all_turns), int(all_stalls), float(seconds))
