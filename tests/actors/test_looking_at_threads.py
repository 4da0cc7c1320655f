"""Looking at what a thread is doing holds up nobody, whenever the garbage collector comes."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from understudy.actors import killing

PROGRAM = """
import gc, queue, threading, time
from understudy.actors import killing

class Holder:
    pass

def make_garbage():  # whose end takes the lock that looking at threads takes
    for _ in range(20):
        holder = Holder()
        holder.me, holder.local = holder, threading.local()
        holder.local.value = object()

def rest(gate):  # a frame that nobody has looked at before: an object is made for it
    gate.get()

def live(gate):
    while True:
        rest(gate)

gates = [queue.SimpleQueue() for _ in range(30)]
for gate in gates:
    threading.Thread(target=live, args=(gate,), daemon=True).start()
for turn in range(100):
    for gate in gates:
        gate.put(None)
    time.sleep(0.002)
    gc.disable()
    make_garbage()
    gc.set_threshold(gc.get_count()[0] + 1 + turn % 25, 10**6, 10**6)  # it comes so many objects from here
    gc.enable()
    assert killing.frame_of(threading.get_ident()) is not None
    gc.set_threshold(700, 10, 10)
print("over")
"""


def test_a_collection_that_comes_meanwhile_stops_no_process() -> None:
    """CPython's gh-106883: in 3.11.7 it waited for ever, for a lock that it held itself."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("over", "")


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_as_it_was_afterwards(is_on: bool) -> None:
    """Whoever turned it off."""
    was_on = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        assert killing.frame_of(threading.get_ident()) is not None
        assert killing.frame_of(1) is None
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if was_on else gc.disable)()
