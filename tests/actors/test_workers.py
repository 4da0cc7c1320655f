"""The threads that background work runs on: how many, for whom, for how long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from understudy.actors.channel import Channel
from understudy.actors.dispatch import workers
from understudy.actors.dispatch.workers import WorkerThreads
from understudy.messages.errors import DispatcherExhausted, SystemStopped

from .background_stage import PATIENCE, wait


@pytest.fixture
def threads() -> Iterator[WorkerThreads]:
    """Two at most."""
    made = WorkerThreads("few", limit=2)
    yield made
    made.stop(PATIENCE)
    assert made.threads == 0


def test_a_thread_is_started_only_when_none_is_idle(threads: WorkerThreads) -> None:
    names = Channel[str](3)
    for _ in range(3):
        threads.submit(lambda: names.put(threading.current_thread().name))
        assert names.get(timeout=PATIENCE) == "few-background-1"
        while not threads._idle:
            pass


def test_no_more_jobs_run_at_once_than_may_and_the_others_wait_in_order(threads: WorkerThreads) -> None:
    gate, done = threading.Event(), Channel[int](10)

    def job(number: int) -> None:
        gate.wait(PATIENCE)
        done.put(number)

    for number in range(2):
        threads.submit(lambda number=number: job(number))  # type: ignore[misc]  # a lambda's default
    order: list[int] = []
    for number in range(2, 6):
        threads.submit(lambda number=number: order.append(number))  # type: ignore[misc]  # as above
    assert threads.threads == 2
    assert order == []
    gate.set()
    threads.stop(PATIENCE)
    assert sorted(order) == [2, 3, 4, 5]


def test_a_job_that_waits_for_another_does_not_keep_it_from_running(threads: WorkerThreads) -> None:
    """However many wait: the limit counts those that run."""
    channel, done = Channel[int](), Channel[int](10)
    for _ in range(5):
        threads.submit(lambda: done.put(channel.get(timeout=PATIENCE)))
    for number in range(5):
        threads.submit(lambda number=number: channel.put(number))  # type: ignore[misc]  # a lambda's default
    assert sorted(done.get(timeout=PATIENCE) for _ in range(5)) == [0, 1, 2, 3, 4]


def test_a_thread_that_was_given_up_is_replaced(threads: WorkerThreads) -> None:
    stuck, ran = threading.Event(), threading.Event()
    for _ in range(2):
        threads.submit(lambda: wait(stuck))
    threads.submit(ran.set)
    assert not ran.is_set()
    threads.discount()
    wait(ran)
    threads.count()
    stuck.set()


def test_an_idle_thread_ends_after_a_while(monkeypatch: pytest.MonkeyPatch, threads: WorkerThreads) -> None:
    monkeypatch.setattr(workers, "KEEP_ALIVE", 0.0)
    last: list[threading.Thread] = []
    ran = threading.Event()
    threads.submit(lambda: (last.append(threading.current_thread()), ran.set())[0])  # type: ignore[func-returns-value]
    wait(ran)
    last[0].join(PATIENCE)
    assert threads.threads == 0
    again = threading.Event()
    threads.submit(again.set)
    wait(again)


def test_a_job_that_raises_does_not_end_its_thread(monkeypatch: pytest.MonkeyPatch, threads: WorkerThreads) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    ran = threading.Event()
    threads.submit(lambda: dict[int, None]()[0])
    while not raised:
        pass
    threads.submit(ran.set)
    wait(ran)
    assert threads.threads == 1
    assert raised[0].exc_type is KeyError


def test_after_the_stop_nothing_is_taken_but_what_was_taken_is_done() -> None:
    threads = WorkerThreads("few", limit=1)
    gate, ran = threading.Event(), threading.Event()
    threads.submit(lambda: wait(gate))
    threads.submit(ran.set)
    gate.set()
    threads.stop(PATIENCE)
    assert ran.is_set()
    with pytest.raises(SystemStopped):
        threads.submit(ran.clear)
    assert ran.is_set()


def test_no_thread_to_be_had_is_an_error_with_a_code(monkeypatch: pytest.MonkeyPatch, threads: WorkerThreads) -> None:
    """But only if there is none at all: otherwise the job waits for those that there are."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as poor:
        poor.setattr(threading.Thread, "start", refuse)
        with pytest.raises(DispatcherExhausted) as exhausted:
            threads.submit(lambda: None)
    assert exhausted.value.code.hex == "0xFFF8"
    gate, ran = threading.Event(), threading.Event()
    threads.submit(lambda: wait(gate))
    with monkeypatch.context() as poor:
        poor.setattr(threading.Thread, "start", refuse)
        threads.submit(ran.set)
    gate.set()
    wait(ran)
