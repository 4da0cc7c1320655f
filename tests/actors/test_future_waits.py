"""Waits for a future that come to nothing."""

from __future__ import annotations

import asyncio

import pytest

from understudy import Future
from understudy.messages.errors import AskTimeout


def test_a_wait_that_ran_out_leaves_nothing_behind() -> None:
    """Somebody may look at a future again and again for months."""
    future: Future[int] = Future()
    for _ in range(10):
        with pytest.raises(AskTimeout):
            future.get(timeout=0.0001)
    assert not future._callbacks
    future.set(1)
    assert future.get() == 1


def test_an_await_that_was_cancelled_leaves_nothing_behind() -> None:
    """As under ``asyncio.timeout``."""
    future: Future[int] = Future()

    async def main() -> None:
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await future
        assert not future._callbacks

    asyncio.run(main())
