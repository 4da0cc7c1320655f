"""The main job: a file of notifications through a supervised broker, mutator, cache and lock.

    python -m examples.notifications [FILE]

FILE holds one notification as JSON a line; without it the sample of 1,000 beside this module is taken. Midway the
mutator is made to crash and a mailbox is filled; at the end it is shown that nothing was lost.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from understudy import ActorError, ActorSystem, Future
from understudy.actors.cache.backend import DEFAULT_LIST_LIMIT
from understudy.messages import (
    AcquireLock,
    CacheItems,
    CodecError,
    ConsumeNotif,
    CountQueue,
    FileError,
    Lease,
    NotifById,
    NotifData,
    ProduceNotif,
    Published,
    ReleaseLock,
    StoreNotifEvent,
    read_lines,
)

from .report import Tally, print_broken, print_errors, print_tree
from .tree import COURIER_CAPACITY, Push, Sabotage, declare

SAMPLE = Path(__file__).with_name("sample.jsonl")
EXCHANGE, QUEUE, TAG = "SavageEx", "TestOnion", "cons_tag0"
CACHED_FOR = 300
IN_FLIGHT = 200
PATIENCE = 60.0

BROKER, MUTATOR, CACHE, LOCK, COURIER = (
    f"notifications/{name}" for name in ("broker", "mutator", "cache", "lock", "courier")
)


def main() -> int:
    """Run the pipeline; the exit status is 0 if nothing was lost."""
    options = _options()
    console = Console()
    logging.basicConfig(format="%(levelname)s %(message)s")
    logging.getLogger("understudy").setLevel(logging.WARNING if options.verbose else logging.CRITICAL)
    tally = Tally()
    try:
        notifs = _read(options.file, tally)
    except FileError as error:
        console.print(error.response.to_json().decode(), style="red", soft_wrap=True, markup=False)
        return 2
    if not notifs:
        print_broken(console, tally)
        console.print(f"{options.file}: no notifications in it", style="red", markup=False)
        return 2
    try:
        with _store(options.store) as store_url:
            return run_pipeline(options.file, notifs, store_url, tally, console)
    except ActorError as error:
        print_errors(console, tally)
        console.print(error.response.to_json().decode(), style="red", soft_wrap=True, markup=False)
        return 1


def run_pipeline(file: Path, notifs: list[NotifData], store_url: str | None, tally: Tally, console: Console) -> int:
    """Send everything through, and print what came of it; the exit status is 0 if nothing was lost.

    Raises:
        ActorError: a service cannot do its part at all: its server is not there, say.
    """
    gate = threading.Event()
    gate.set()
    with ActorSystem("demo", declare(store_url, gate)) as system:
        stored_before, cached_before = count(system, notifs)
        lease = acquire_import(system, tally, file, notifs[0])
        start_consuming(system)
        pump(system, notifs, tally, console, gate)
        stored, cached = count(system, notifs)
        system.ask(LOCK, ReleaseLock(lease.name, lease.token))
        print_broken(console, tally)
        console.print()
        print_tree(console, system)
        console.print()
        print_errors(console, tally)
        if stored_before or cached_before:
            console.print(
                f"\nbefore this run {len(stored_before)} of them were stored, and {len(cached_before)} cached: what is "
                "counted below is there, whichever run it is from",
                style="yellow",
                highlight=False,
            )
        lost = len(set(tally.published) - (stored & cached))
        console.print(
            f"\npublished {len(set(tally.published))} · stored {len(stored)} · cached {len(cached)} · lost {lost}",
            style="bold green" if not lost else "bold red",
            highlight=False,
        )
    return 0 if not lost else 1


def acquire_import(system: ActorSystem, tally: Tally, file: Path, first: NotifData) -> Lease:
    """Take the lock that makes this the only import of the file, and show what two others meet.

    A second importer gets no lock. A straggler, whose lease had ended before this one began, may not write any more:
    the store has seen a newer fencing token than its own.
    """
    name = f"import:{file.name}"
    straggler = system.ask(LOCK, AcquireLock(name, owner="straggler"))
    system.ask(LOCK, ReleaseLock(name, straggler.token))
    lease = system.ask(LOCK, AcquireLock(name, owner="importer", lease=600.0))
    with collecting(tally):
        system.ask(LOCK, AcquireLock(name, owner="second importer"))
    system.ask(MUTATOR, StoreNotifEvent(message=first, fence=lease.fence))
    with collecting(tally):
        system.ask(MUTATOR, StoreNotifEvent(message=first, fence=straggler.fence))
    return lease


def start_consuming(system: ActorSystem) -> None:
    """Have everything that is published stored and cached."""
    system.ask(
        BROKER,
        ConsumeNotif(
            queue=QUEUE,
            exchange_name=EXCHANGE,
            tag=TAG,
            redis_cache_exp=CACHED_FOR,
            cache_on_redis=True,
            store_in_db=True,
        ),
    )


def pump(system: ActorSystem, notifs: list[NotifData], tally: Tally, console: Console, gate: threading.Event) -> None:
    """Publish everything, many at a time; midway crash the mutator and fill the courier's mailbox."""
    midway = len(notifs) // 2
    in_flight: deque[Future[Published]] = deque()
    with _progress(console) as progress:
        publishing = progress.add_task("published", total=len(notifs))
        for position, notif in enumerate(notifs):
            if position == midway:
                crash_mutator(system, tally)
                fill_courier(system, tally, notif, gate)
            in_flight.append(register_notif(system, notif))
            while len(in_flight) >= IN_FLIGHT:
                _settle(in_flight.popleft(), tally)
                progress.advance(publishing)
        while in_flight:
            _settle(in_flight.popleft(), tally)
            progress.advance(publishing)
        consuming = progress.add_task("stored and cached", total=len(tally.published))
        await_consumed(system, lambda left: progress.update(consuming, completed=len(tally.published) - left))


def register_notif(system: ActorSystem, notif: NotifData) -> Future[Published]:
    """Publish one notification; the future has an outcome once the broker has confirmed it."""
    return system.ask(BROKER, ProduceNotif(notif_data=notif, exchange_name=EXCHANGE), block=False, timeout=PATIENCE)


def crash_mutator(system: ActorSystem, tally: Tally) -> None:
    """Make the mutator raise; its supervisor puts another one in its place."""
    with collecting(tally):
        system.ask(MUTATOR, Sabotage("crashed on purpose, midway"))


def fill_courier(system: ActorSystem, tally: Tally, notif: NotifData, gate: threading.Event) -> None:
    """Ask more of the courier, while it is held up, than its mailbox may hold; then let it work."""
    gate.clear()
    receipts = [system.ask(COURIER, Push(notif), block=False, timeout=PATIENCE) for _ in range(COURIER_CAPACITY + 5)]
    gate.set()
    for receipt in receipts:
        with collecting(tally):
            receipt.get(timeout=PATIENCE)


def await_consumed(system: ActorSystem, tell_left: Callable[[int], None]) -> None:
    """Wait until the queue is empty and every delivery acknowledged."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        counts = system.ask(BROKER, CountQueue(QUEUE))
        left = counts.ready + counts.unsettled
        tell_left(left)
        if not left:
            return
        time.sleep(0.02)


def count(system: ActorSystem, notifs: list[NotifData]) -> tuple[set[str], set[str]]:
    """Read back which notifications are stored, and which are cached (or were, and made room in a full list)."""
    rows = {notif.id: system.ask(MUTATOR, NotifById(notif.id), block=False) for notif in notifs}
    stored = {nid for nid, row in rows.items() if row.get() is not None}
    of_receiver: dict[str, list[str]] = {}
    for notif in notifs:
        of_receiver.setdefault(notif.receiver_info, []).append(notif.id)
    cached: set[str] = set()
    for receiver, ids in of_receiver.items():
        items = system.ask(CACHE, CacheItems(f"notif_owner:{receiver}"))
        kept = {item["id"] for item in items}
        full = len(items) >= DEFAULT_LIST_LIMIT
        cached.update(nid for nid in ids if nid in kept or full)
    return stored, cached


@contextmanager
def collecting(tally: Tally) -> Iterator[None]:
    """Keep the error response of what fails inside, and go on."""
    try:
        yield
    except ActorError as error:
        tally.errors.append(error.response)


def _settle(future: Future[Published], tally: Tally) -> None:
    with collecting(tally):
        tally.published.append(future.get(timeout=PATIENCE).message_id)


def _read(file: Path, tally: Tally) -> list[NotifData]:
    notifs: list[NotifData] = []
    for number, line in read_lines(file, NotifData):
        if isinstance(line, CodecError):
            tally.broken.append((number, line.response))
        else:
            notifs.append(line)
    return notifs


@contextmanager
def _store(url: str | None) -> Iterator[str | None]:
    """The store's URL: as given, else as the environment says, else a database that goes when the example ends."""
    if url or os.environ.get("UNDERSTUDY_STORE_URL"):
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="understudy-demo-") as folder:
        yield f"sqlite:///{folder}/notifications.db"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>17}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Run notifications through the pipeline.")
    parser.add_argument("file", nargs="?", type=Path, default=SAMPLE, help="one notification as JSON a line")
    parser.add_argument("--store", metavar="URL", help="where to store; by default a database that is thrown away")
    parser.add_argument("--verbose", action="store_true", help="log restarts and crashes as they happen")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
