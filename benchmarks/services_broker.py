"""RabbitMQ through the broker actor, and through pika's BlockingConnection and aio-pika: in turn, in one run.

Every measurement is a process of its own, so that no side's threads, loops or garbage are in the other's way. All of
them publish the same 200 bytes, persistent and confirmed, into the same quorum queue, and consume from it with an
acknowledgement for each message, prefetch 1,000. pika's publishing waits for each confirm, as it always does;
aio-pika's and ours have 2,000 messages in flight. What is timed is said with each; connecting is not.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

URL: Final = os.environ.get("UNDERSTUDY_BENCH_AMQP_URL", "amqp://guest:guest@127.0.0.1:5672")
BODY: Final = b"x" * 200
IN_FLIGHT: Final = 2_000
PREFETCH: Final = 1_000
PATIENCE: Final = 120.0

NUMBERS: Final = {
    ("publish", "understudy"): 30_000,
    ("publish", "pika"): 2_000,
    ("publish", "aio-pika"): 10_000,
    ("consume", "understudy"): 30_000,
    ("consume", "pika"): 30_000,
    ("light", "understudy"): 1_000,
    ("light", "pika"): 1_000,
}
"""How many messages each side is measured with; a slow side with fewer."""

LIGHT_PAUSE: Final = 0.002
"""Seconds between two publishes at light load."""


# --- ours -----------------------------------------------------------------------------------------------------


def _ours(what: str, queue: str, number: int) -> Any:
    from understudy import Actor, ActorSystem, Broker, CountQueue, Delivered, Publish, Subscribe, handles

    done = threading.Event()

    class Reader(Actor):
        seen = 0

        @handles
        def delivered(self, message: Delivered) -> None:
            self.seen += 1
            if self.seen == number:
                done.set()

    with ActorSystem("bench") as system:
        broker = system.spawn(Broker, URL, name="broker")
        broker.ask(CountQueue(queue), timeout=30)
        if what == "consume":
            system.spawn(Reader, name="reader")
            start = time.perf_counter()
            broker.ask(Subscribe(queue, "reader", "bench", PREFETCH), timeout=30)
            assert done.wait(PATIENCE)
            while broker.ask(CountQueue(queue), timeout=30).unsettled:
                pass
            return number / (time.perf_counter() - start)
        if what == "light":
            return _each_timed(lambda: broker.ask(Publish("", queue, BODY), timeout=30), number)
        room = threading.Semaphore(IN_FLIGHT)
        start = time.perf_counter()
        for _ in range(number):
            room.acquire()
            future = broker.ask(Publish("", queue, BODY), block=False, timeout=60)
            future.on_done(room.release)
        for _ in range(IN_FLIGHT):
            room.acquire()
        elapsed = time.perf_counter() - start
        return number / elapsed


# --- theirs ---------------------------------------------------------------------------------------------------


def _pika(what: str, queue: str, number: int) -> Any:
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    if what == "consume":
        channel.basic_qos(prefetch_count=PREFETCH)
        seen = 0

        def take(_: Any, method: Any, properties: Any, body: bytes) -> None:
            nonlocal seen
            channel.basic_ack(method.delivery_tag)
            seen += 1
            if seen == number:
                channel.stop_consuming()

        start = time.perf_counter()
        channel.basic_consume(queue, take)
        channel.start_consuming()
        return number / (time.perf_counter() - start)
    channel.confirm_delivery()

    def publish() -> None:
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2, message_id=str(uuid4()))
        channel.basic_publish("", queue, BODY, properties, mandatory=True)

    publish()
    if what == "light":
        return _each_timed(publish, number)
    start = time.perf_counter()
    for _ in range(number):
        publish()
    return number / (time.perf_counter() - start)


def _aio_pika(what: str, queue: str, number: int) -> Any:
    import aio_pika

    async def run() -> float:
        connection = await aio_pika.connect(URL)
        channel = await connection.channel(publisher_confirms=True)
        room = asyncio.Semaphore(IN_FLIGHT)

        async def publish() -> None:
            message = aio_pika.Message(
                BODY,
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                message_id=str(uuid4()),
            )
            await channel.default_exchange.publish(message, queue, mandatory=True)
            room.release()

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(number):
                await room.acquire()
                group.create_task(publish())
        elapsed = time.perf_counter() - start
        await connection.close()
        return number / elapsed

    return asyncio.run(run())


SIDES: Final[dict[str, Callable[[str, str, int], Any]]] = {"understudy": _ours, "pika": _pika, "aio-pika": _aio_pika}


def _each_timed(act: Callable[[], object], number: int) -> list[float]:
    """The 50th and the 99th percentile, in milliseconds."""
    times: list[float] = []
    for _ in range(number):
        start = time.perf_counter()
        act()
        times.append((time.perf_counter() - start) * 1000)
        time.sleep(LIGHT_PAUSE)
    cuts = statistics.quantiles(times, n=100)
    return [cuts[49], cuts[98]]


# --- the run --------------------------------------------------------------------------------------------------


def measure_and_print(rounds: int) -> dict[str, Any]:
    """Measure all sides in turn; returns the figures."""
    import pika

    connection = pika.BlockingConnection(pika.URLParameters(URL))
    queue = f"bench-{uuid4().hex}"
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    try:
        rates = {key: list[Any]() for key in NUMBERS}
        for _ in range(rounds):
            for key in NUMBERS:
                what, side = key
                if what == "consume":
                    _fill(channel, queue, NUMBERS[key])
                rates[key].append(_in_a_process(what, side, queue, NUMBERS[key]))
                channel.queue_purge(queue)
                connection.process_data_events(0)
    finally:
        channel.queue_delete(queue)
        connection.close()
    return _report(rates)


def _fill(channel: Any, queue: str, number: int) -> None:
    import pika

    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2, message_id="filled")
    for position in range(number):
        properties.message_id = str(position)
        channel.basic_publish("", queue, BODY, properties)
    end = time.monotonic() + PATIENCE
    while channel.queue_declare(queue, passive=True).method.message_count < number:
        assert time.monotonic() < end
        time.sleep(0.05)


def _in_a_process(what: str, side: str, queue: str, number: int) -> Any:
    command = [sys.executable, "-m", "benchmarks.services_broker", what, side, queue, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE * 2)
    return json.loads(done.stdout.splitlines()[-1])


def _report(rates: dict[tuple[str, str], list[Any]]) -> dict[str, Any]:
    medians = {key: statistics.median(values) for key, values in rates.items() if key[0] != "light"}
    for (what, side), rate in medians.items():
        low, high = min(rates[what, side]), max(rates[what, side])
        print(f"  {what:8} {side:12} {rate:10,.0f} messages/s   ({low:,.0f} to {high:,.0f})")
    figures: dict[str, Any] = {f"{what} {side}": rate for (what, side), rate in medians.items()}

    def ratio(what: str, side: str) -> float:
        return float(medians[what, "understudy"] / medians[what, side])

    for what, side, wanted in (("publish", "pika", 10), ("publish", "aio-pika", 3), ("consume", "pika", 2)):
        figures[f"{what} ratio to {side}"] = ratio(what, side)
        print(f"  {what} with acknowledgement: {ratio(what, side):.1f}x {side} (wanted: {wanted}x)")
    for place, name in ((0, "p50"), (1, "p99")):
        ours, theirs = (
            statistics.median(each[place] for each in rates["light", side]) for side in ("understudy", "pika")
        )
        figures[f"light {name} ratio to pika"] = ours / theirs
        print(f"  one publish at light load, {name}: {ours:.2f} ms, pika {theirs:.2f} ms")
        print(f"    {ours / theirs:.2f}x (wanted: at most 2x)")
    return figures


if __name__ == "__main__":
    _what, _side, _queue, _number = sys.argv[1:]
    print(json.dumps(SIDES[_side](_what, _queue, int(_number))))
