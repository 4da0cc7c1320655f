"""Fresh ids: valid, never twice, in threads and forks either."""

from __future__ import annotations

import os
import threading
from uuid import RFC_4122, UUID

import pytest

from understudy.actors.ids import DRAWN_AT_ONCE, new_uuid

MANY = 4 * DRAWN_AT_ONCE


def test_an_id_is_a_random_uuid_as_the_standard_library_writes_it() -> None:
    """Version and variant are those of RFC 9562."""
    for _ in range(MANY):
        text = new_uuid()
        uuid = UUID(text)
        assert (str(uuid), uuid.version, uuid.variant) == (text, 4, RFC_4122)


def test_every_random_bit_is_sometimes_0_and_sometimes_1() -> None:
    """All 122: the other six say what it is."""
    numbers = [UUID(new_uuid()).int for _ in range(MANY)]
    changing = sum(0 < sum(number >> bit & 1 for number in numbers) < MANY for bit in range(128))
    assert changing == 122


def test_threads_never_get_the_same_id() -> None:
    """However they meet at the supply."""
    ids: list[str] = []
    ready = threading.Barrier(4)

    def draw() -> None:
        ready.wait()
        ids.extend([new_uuid() for _ in range(MANY)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == len(ids) == 4 * MANY


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_gives_out_other_ids_than_its_parent() -> None:
    """What the parent had drawn is the parent's."""
    new_uuid()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "\n".join(new_uuid() for _ in range(10)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        theirs = set(lines.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == 10
    assert not theirs & {new_uuid() for _ in range(MANY)}
