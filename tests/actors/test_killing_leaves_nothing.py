"""What was taken back before it landed leaves nothing behind: neither for the thread nor for those that are traced."""

from __future__ import annotations

import subprocess
import sys

import pytest

ALONE = """
import sys, threading
from understudy.actors import killing

def traced():
    return "traced"

def trace(frame, event, argument):
    return trace

killing.forget_pending(threading.get_ident())
sys.settrace(trace)
print(traced())
"""

ANOTHER = """
import sys, threading
from understudy.actors import killing

entered, go_on, outcome = threading.Lock(), threading.Lock(), []
entered.acquire(), go_on.acquire()

def work():
    entered.release()
    go_on.acquire()
    outcome.append("went on")

thread = threading.Thread(target=work)
thread.start()
entered.acquire()
killing.inject(thread.ident)
killing.forget_pending(thread.ident)

def traced():
    return "traced"

def trace(frame, event, argument):
    return trace

sys.settrace(trace)
print(traced())
sys.settrace(None)
go_on.release()
thread.join()
print(*outcome)
"""

LANDED = """
import threading
from understudy.actors import killing

def work():
    try:
        killing.inject(threading.get_ident())
    finally:
        killing.forget_pending(threading.get_ident())
    print("went on")

def try_it():
    try:
        work()
    except killing.ActorKilled:
        print("it had landed")

thread = threading.Thread(target=try_it)
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    ("script", "said"), [(ALONE, ["traced"]), (ANOTHER, ["traced", "went on"]), (LANDED, ["it had landed"])]
)
def test_a_thread_that_is_traced_goes_on(script: str, said: list[str]) -> None:
    """CPython 3.11 leaves a note that an exception is pending; a function that is traced looks for it for ever."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.splitlines() == said, done.stderr
