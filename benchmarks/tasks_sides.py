"""One measurement of durable tasks on one side, in this process: ``tasks_sides.py SIDE WHAT NUMBER URL QUEUE``.

- enqueue: one thread puts tasks into the queue, one after the other; batch: 1,000 at a time.
- process: the queue is full before the worker starts; timed from the first task's handler to the last one's, which do
  nothing but count. Ours with concurrency 10, dramatiq with 8 threads, celery with its pool of 10 threads: one process.
- latency: a worker waits, and a task is enqueued now and then by another process: from before that to its handler.
- memory: what the process holds after each tenth of the tasks.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

CONCURRENCY: Final = 10
DRAMATIQ_THREADS: Final = 8
BATCH: Final = 1_000
PAUSE: Final = 0.01
"""Seconds between two tasks where the worker is to be idle."""
PATIENCE: Final = 300.0


class Counted:
    """What the handlers do: count, and note when each tenth was done."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.first = self.last = 0.0
        self.kib: list[int] = []
        self.waits: list[float] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, sent: str = "") -> None:
        now = time.time()
        with self._lock:
            self.count += 1
            if self.count == 1:
                self.first = time.perf_counter()
            if sent:
                self.waits.append((now - float(sent)) * 1000)
            if self.count % max(1, self.number // 10) == 0:
                self.kib.append(_resident_kib())
            if self.count == self.number:
                self.last = time.perf_counter()
                self.over.set()

    def wait(self) -> None:
        if not self.over.wait(PATIENCE):
            raise SystemExit(f"{self.count} of {self.number} tasks were done in {PATIENCE} s")

    @property
    def rate(self) -> float:
        return (self.number - 1) / (self.last - self.first)


class Side(Protocol):
    """What a side can do."""

    def put(self, text: str) -> None:
        """Enqueue one task."""

    def put_all(self, number: int) -> None:
        """Enqueue many, however that is done best."""

    def work(self, counted: Counted) -> None:
        """Start a worker."""

    def forget(self) -> None:
        """Delete what was put into the queue."""


def understudy(url: str, queue: str) -> Side:
    """Our side."""
    from understudy import (
        ActorSystem,
        ActorTaskDistributor,
        Child,
        DistributeTask,
        Distributor,
        Processor,
        ProcessorSettings,
        RawTask,
        Supervisor,
        TaskRouter,
    )
    from understudy.actors.tasks.inspector import Inspector

    class Ours:
        def __init__(self) -> None:
            tree = Supervisor("tasks", children=[Child(Distributor, (url,), name="distributor")])
            self.system = ActorSystem("bench", tree)
            self.tasks = ActorTaskDistributor(self.system.lookup("tasks/distributor"), timeout=60.0)

        def put(self, text: str) -> None:
            self.tasks.distribute(RawTask("count", text.encode()), queue=queue)

        def put_all(self, number: int) -> None:
            for start in range(0, number, BATCH):
                some = [DistributeTask(RawTask("count"), {"queue": queue}) for _ in range(min(BATCH, number - start))]
                self.tasks.distribute_batch(some)

        def work(self, counted: Counted) -> None:
            router = TaskRouter()
            router.add("count", lambda task: counted(task.payload.decode()))
            settings = ProcessorSettings(concurrency=CONCURRENCY, queues={queue: 1})
            processor = Child(Processor, (router, url, settings), name="processor", shutdown=10.0)
            self.worker = ActorSystem("worker", Supervisor("tasks", children=[processor]))

        def forget(self) -> None:
            if hasattr(self, "worker"):
                self.worker.stop()
            self.system.stop()
            with Inspector(url) as inspector:
                inspector.remove_queue(queue, force=True)

    return Ours()


def dramatiq(url: str, queue: str) -> Side:
    """Dramatiq, with its default middleware but for the exporter of metrics."""
    import dramatiq as library
    from dramatiq.brokers.redis import RedisBroker

    broker: Any = RedisBroker(url=url, namespace=queue)  # type: ignore[no-untyped-call]
    library.set_broker(broker)
    handled: list[Callable[[str], None]] = []

    def count(text: str) -> None:
        handled[0](text)

    actor = library.actor(broker=broker, queue_name=queue)(count)

    class Theirs:
        def put(self, text: str) -> None:
            actor.send(text)

        def put_all(self, number: int) -> None:
            for _ in range(number):
                actor.send("")

        def work(self, counted: Counted) -> None:
            handled.append(counted)
            library.Worker(broker, worker_threads=DRAMATIQ_THREADS).start()

        def forget(self) -> None:
            for key in broker.client.scan_iter(f"{queue}*", 1000):
                broker.client.delete(key)

    return Theirs()


def celery(url: str, queue: str) -> Side:
    """Celery, without a result backend, with its pool of threads."""
    from celery import Celery

    app = Celery("bench", broker=url)
    app.conf.update(task_default_queue=queue, task_ignore_result=True, worker_hijack_root_logger=False)
    app.conf.update(broker_connection_retry_on_startup=True, worker_redirect_stdouts=False)
    handled: list[Callable[[str], None]] = []

    def count(text: str) -> None:
        handled[0](text)

    task: Any = app.task(name="count")(count)

    class Theirs:
        def put(self, text: str) -> None:
            task.delay(text)

        def put_all(self, number: int) -> None:
            for _ in range(number):
                task.delay("")

        def work(self, counted: Counted) -> None:
            handled.append(counted)
            worker = app.Worker(
                pool="threads", concurrency=CONCURRENCY, loglevel="ERROR", queues=[queue], quiet=True,
                without_gossip=True, without_mingle=True,
            )  # fmt: skip
            threading.Thread(target=worker.start, daemon=True).start()

        def forget(self) -> None:
            with app.connection_for_write() as connection:
                bindings = f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}"
                connection.default_channel.client.delete(queue, *bindings)

    return Theirs()


SIDES: Final[dict[str, Callable[[str, str], Side]]] = {"understudy": understudy, "dramatiq": dramatiq, "celery": celery}


def measure(name: str, what: str, number: int, url: str, queue: str) -> dict[str, Any]:
    """One measurement."""
    side = SIDES[name](url, queue)
    counted = Counted(number)
    if what == "enqueue":
        side.put("")
        return {"rate": _timed(number, lambda: _put_each(side, number))} | _forgotten(side)
    if what == "batch":
        side.put("")
        return {"rate": _timed(number, lambda: side.put_all(number))} | _forgotten(side)
    if what == "latency":
        side.work(counted)
        command = [sys.executable, "-m", "benchmarks.tasks_sides", name, "feed", str(number), url, queue]
        with subprocess.Popen(command) as feeder:
            counted.wait()
            feeder.wait(PATIENCE)
        waits = sorted(counted.waits)
        return {"median": waits[number // 2], "p99": waits[number * 99 // 100]} | _forgotten(side)
    if what == "feed":
        time.sleep(2.0)  # the worker is to be idle
        for _ in range(number):
            side.put(repr(time.time()))
            time.sleep(PAUSE)
        return {}
    side.put_all(number)
    reads, began = _reads(url), time.process_time()
    side.work(counted)
    counted.wait()
    cpu = (time.process_time() - began) / number * 1e6
    trips = None if reads is None else (_reads(url) - reads) / number
    return {"rate": counted.rate, "cpu": cpu, "trips": trips, "kib": counted.kib, "number": number} | _forgotten(side)


def _put_each(side: Side, number: int) -> None:
    for _ in range(number):
        side.put("")


def _forgotten(side: Side) -> dict[str, Any]:
    side.forget()
    return {}


def _timed(number: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return number / (time.perf_counter() - began)


def _reads(url: str) -> Any:
    """How often the server has read from a connection: the round trips, as far as it can tell; None for a file."""
    if url.startswith("sqlite:"):
        return None
    import redis

    with redis.Redis.from_url(url) as client:
        return client.info("stats")["total_reads_processed"]


def _resident_kib() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    side, what, number, url, queue = sys.argv[1:]
    print(json.dumps(measure(side, what, int(number), url, queue)), flush=True)
    os._exit(0)  # what the libraries have running in the background is not waited for
