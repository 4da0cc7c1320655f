"""The lock actor: waiting, time, askers that have left, holders that are told, and fencing end to end."""

from collections.abc import Iterator
from typing import Any

import pytest

from understudy.actors.actor import Actor
from understudy.actors.embedded import Embedded
from understudy.actors.events import ActorRestarted
from understudy.actors.handlers import handles
from understudy.actors.lock.actor import Lock
from understudy.actors.lock.opening import open_backend
from understudy.actors.mutator.actor import Mutator
from understudy.messages import (
    AcquireLock,
    AskTimeout,
    Fence,
    HandlerFailed,
    Lease,
    LeaseLost,
    LockError,
    LockHolder,
    Message,
    NotifData,
    ReleaseLock,
    RenewLock,
    StorageError,
    StoreNotifEvent,
)
from understudy.messages.caller import wall_clock
from understudy.messages.errors import ErrorKind
from understudy.supervisors.system import ActorSystem
from understudy.testing import FaultPlan, SimulatedDispatcher


@pytest.fixture
def faults() -> FaultPlan:
    return FaultPlan()


@pytest.fixture
def simulation(faults: FaultPlan) -> SimulatedDispatcher:
    return SimulatedDispatcher(1, faults=faults)


@pytest.fixture
def system(simulation: SimulatedDispatcher) -> Iterator[ActorSystem]:
    with ActorSystem("shop", dispatcher=simulation) as running:
        yield running


@pytest.fixture
def lock(system: ActorSystem) -> Any:
    return system.spawn(Lock, "memory://", name="lock")


def kind_of(lock: Any, message: Message[Any]) -> str:
    with pytest.raises(LockError) as caught:
        lock.ask(message)
    return str(caught.value.kind)


def test_each_message_has_its_answer(lock: Any, simulation: SimulatedDispatcher) -> None:
    lease = lock.ask(AcquireLock("r", "ada", lease=10))
    assert (lease.name, lease.owner, lease.seconds) == ("r", "ada", 10)
    assert lease.fence == Fence("r", lease.token)
    simulation.advance(4)
    assert lock.ask(LockHolder("r")) == Lease("r", "ada", lease.token, 6)
    assert lock.ask(RenewLock("r", lease.token, lease=20)) == Lease("r", "ada", lease.token, 20)
    assert lock.ask(ReleaseLock("r", lease.token)) is True
    assert lock.ask(ReleaseLock("r", lease.token)) is False
    assert lock.ask(LockHolder("r")) is None
    assert kind_of(lock, RenewLock("r", lease.token)) == "lock.not_held"
    assert kind_of(lock, AcquireLock("", "ada")) == "lock.request.invalid"


def test_those_who_wait_are_answered_in_order_while_the_actor_goes_on(lock: Any) -> None:
    first = lock.ask(AcquireLock("r", "ada"))
    second, third = (lock.ask(AcquireLock("r", owner, wait=60), block=False) for owner in ("bob", "eve"))
    assert lock.ask(LockHolder("r")).owner == "ada"
    lock.ask(ReleaseLock("r", first.token))
    lease = second.get()
    assert (lease.owner, third.done) == ("bob", False)
    assert lease.token > first.token
    lock.ask(ReleaseLock("r", lease.token))
    assert third.get().owner == "eve"


def test_waiting_ends_when_its_time_has_passed(lock: Any, simulation: SimulatedDispatcher) -> None:
    lock.ask(AcquireLock("r", "ada", lease=100))
    waiting = lock.ask(AcquireLock("r", "bob", wait=5), block=False)
    simulation.advance(4.9)
    assert not waiting.done
    simulation.advance(0.1)
    with pytest.raises(LockError) as caught:
        waiting.get()
    assert caught.value.kind == "lock.timeout"
    assert caught.value.response.code == 0xFFF7


def test_a_lease_that_runs_out_is_handed_on_without_anybody_asking(lock: Any, simulation: SimulatedDispatcher) -> None:
    lease = lock.ask(AcquireLock("r", "ada", lease=5))
    waiting = lock.ask(AcquireLock("r", "bob", wait=60, lease=5), block=False)
    simulation.advance(5)
    assert waiting.get().owner == "bob"
    assert kind_of(lock, RenewLock("r", lease.token)) == "lock.lease.lost"
    assert kind_of(lock, ReleaseLock("r", lease.token)) == "lock.lease.lost"
    simulation.advance(5)
    assert lock.ask(LockHolder("r")) is None


@pytest.mark.parametrize("assisted", [False, True])
@pytest.mark.parametrize("block", [False, True])
def test_an_asker_that_has_left_gets_no_lock(
    lock: Any, simulation: SimulatedDispatcher, block: bool, assisted: bool
) -> None:
    """It would hold a lock that it does not know of until the lease runs out."""
    lease = lock.ask(AcquireLock("r", "ada", lease=100))
    lock._cell.handlers.quick[AcquireLock] = assisted

    def acquire() -> Any:
        asked = lock.ask(AcquireLock("r", "bob", wait=60), timeout=1, block=block)
        return asked if block else asked.get()

    with pytest.raises(AskTimeout):
        acquire()
    waiting = lock.ask(AcquireLock("r", "eve", wait=60), block=False)
    before = simulation.clock()
    lock.ask(ReleaseLock("r", lease.token))
    assert waiting.get().owner == "eve"
    assert simulation.clock() == before


def test_an_asker_that_leaves_the_last_one_in_line_leaves_the_lock_free(
    lock: Any, simulation: SimulatedDispatcher
) -> None:
    lease = lock.ask(AcquireLock("r", "ada", lease=100))
    with pytest.raises(AskTimeout):
        lock.ask(AcquireLock("r", "bob", wait=60), timeout=1)
    lock.ask(ReleaseLock("r", lease.token))
    assert lock.ask(LockHolder("r")) is None
    assert lock.ask(AcquireLock("r", "eve")).owner == "eve"


def test_a_told_acquire_locks_nothing(lock: Any) -> None:
    lock.tell(AcquireLock("r", "ada"))
    assert lock.ask(LockHolder("r")) is None


def test_asking_again_with_the_same_request_id_gives_the_same_lease(lock: Any) -> None:
    lease = lock.ask(AcquireLock("r", "ada", request_id="wish"))
    assert lock.ask(AcquireLock("r", "ada", request_id="wish")) == lease
    assert kind_of(lock, AcquireLock("r", "ada")) == "lock.timeout"


class Holder(Actor):
    """An actor that wants to know when it has lost its lease."""

    def __init__(self, lost: list[LeaseLost]) -> None:
        super().__init__()
        self.lost = lost

    @handles
    def lease_lost(self, message: LeaseLost) -> None:
        self.lost.append(message)


def test_a_holder_is_told_when_its_lease_has_run_out(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    lost: list[LeaseLost] = []
    system.spawn(Holder, lost, name="holder")
    kept = lock.ask(AcquireLock("kept", "holder", lease=5, notify="holder"))
    gone = lock.ask(AcquireLock("gone", "holder", lease=5, notify="holder"))
    simulation.advance(4)
    lock.ask(ReleaseLock("kept", kept.token))
    simulation.advance(1)
    assert lost == [LeaseLost("gone", gone.token)]


def test_a_holder_that_does_not_exist_is_refused(system: ActorSystem, lock: Any) -> None:
    """It could not be told of a loss, nor would anybody notice that it is gone."""
    system.spawn(Holder, [], name="holder")
    with pytest.raises(LockError, match=r"notify='holdr': .*'holder'") as caught:
        lock.ask(AcquireLock("r", "ada", notify="holdr"))
    assert (caught.value.kind, caught.value.response.retryable) == ("lock.request.invalid", False)
    assert lock.ask(LockHolder("r")) is None


@pytest.mark.parametrize("faults", [FaultPlan().crash("lock", message=LockHolder)])
def test_leases_outlive_the_lock_actor_and_its_understudy_watches_over_them(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    lost: list[LeaseLost] = []
    system.spawn(Holder, lost, name="holder")
    lease = lock.ask(AcquireLock("r", "ada", lease=10, notify="holder"))
    waiting = lock.ask(AcquireLock("r", "bob", wait=60), block=False)
    simulation.run_until_idle()
    with pytest.raises(HandlerFailed):
        lock.ask(LockHolder("r"))
    with pytest.raises(LockError) as caught:
        waiting.get()
    assert caught.value.kind == "lock.closed"
    assert lock.ask(LockHolder("r")).token == lease.token
    assert kind_of(lock, AcquireLock("r", "eve")) == "lock.timeout"
    simulation.advance(10)
    assert lost == [LeaseLost("r", lease.token)]
    assert lock.ask(AcquireLock("r", "eve")).token > lease.token


# --- leases that are looked after ---------------------------------------------------------------------------


class Crash(Message[None]):
    """Fall."""


class Falling(Holder):
    @handles
    def fall(self, message: Crash) -> None:
        raise RuntimeError("as ordered")


def test_a_watchdog_renews_until_the_release(lock: Any, simulation: SimulatedDispatcher) -> None:
    lease = lock.ask(AcquireLock("r", "ada", lease=6, watchdog=True))
    simulation.advance(60)
    assert 4 <= lock.ask(LockHolder("r")).seconds <= 6
    assert lock.ask(LockHolder("r")).token == lease.token
    assert lock.ask(ReleaseLock("r", lease.token)) is True
    assert lock.ask(LockHolder("r")) is None
    simulation.advance(10)
    assert not lock._cell.extras.timers


def test_renewals_hold_nobody_up_for_long_while_the_server_does_not_answer(
    lock: Any, simulation: SimulatedDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They get a short time each, one lease alone tries whether the server is back, and then all are renewed."""
    leases = [lock.ask(AcquireLock(name, "ada", lease=30, watchdog=True)) for name in ("r", "s")]
    backend, tried = lock._cell.actor._backend, list[tuple[float, float]]()

    def hang(resource: str, token: int, ttl: float, timeout: float | None = None) -> None:
        tried.append((round(simulation.clock() - begun), timeout or 0))
        raise LockError("no answer", kind=ErrorKind.LOCK_UNAVAILABLE)

    begun = simulation.clock()
    monkeypatch.setattr(backend, "renew", hang)
    simulation.advance(17)
    assert [at for at, _ in tried] == [10, 12, 14, 16]
    assert max(timeout for _, timeout in tried) <= 0.5
    monkeypatch.undo()
    simulation.advance(60)
    assert [lock.ask(LockHolder(lease.name)).token for lease in leases] == [lease.token for lease in leases]


def test_a_lock_is_given_back_when_its_holder_is_gone(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    holder = system.spawn(Holder, [], name="holder")
    for name in ("one", "two"):
        lock.ask(AcquireLock(name, "holder", lease=600, notify="holder", watchdog=name == "two"))
    waiting = lock.ask(AcquireLock("one", "bob", wait=60), block=False)
    holder.stop()
    simulation.run_until_idle()
    assert waiting.get().owner == "bob"
    assert lock.ask(LockHolder("two")) is None


@pytest.mark.parametrize("watchdog", [False, True])
def test_a_lock_is_given_back_as_soon_as_its_holder_was_restarted(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher, watchdog: bool
) -> None:
    """The next incarnation does not know that it holds anything, and may want it; no time has to pass."""
    holder: Any = system.spawn(Falling, [], name="holder")
    other: Any = system.spawn(Falling, [], name="other")
    lock.ask(AcquireLock("r", "holder", lease=600, notify="holder", watchdog=watchdog))
    lock.ask(AcquireLock("s", "other", lease=600, notify="other"))
    waiting = lock.ask(AcquireLock("r", "bob", wait=60), block=False)
    holder.tell(Crash())
    simulation.run_until_idle()
    assert waiting.get(timeout=0).owner == "bob"
    assert lock.ask(LockHolder("s")).owner == "other"
    other.tell(Crash())
    simulation.run_until_idle()
    assert lock.ask(LockHolder("s")) is None


class Insistent(Falling):
    """Asks for its lock again, under the same request id, as soon as it lives."""

    def on_start(self) -> None:
        self.lookup("lock").ask(AcquireLock("r", "me", lease=600, request_id="mine", notify="holder"))


def test_an_understudy_that_asks_again_keeps_the_lock_of_the_incarnation_before(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    """It asks before it counts as restarted, and from then on the lease is its own."""
    holder: Any = system.spawn(Insistent, [], name="holder")
    token = lock.ask(LockHolder("r")).token
    waiting = lock.ask(AcquireLock("r", "bob", wait=60), block=False)
    holder.tell(Crash())
    simulation.advance(30)
    assert holder.incarnation == 2
    assert lock.ask(LockHolder("r")).token == token
    holder.stop()
    simulation.run_until_idle()
    assert waiting.get(timeout=0).owner == "bob"


def test_a_lock_that_a_holder_waited_for_before_its_restart_is_given_back_at_once(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    holder: Any = system.spawn(Falling, [], name="holder")
    lease = lock.ask(AcquireLock("r", "ada", lease=600))
    lock.ask(AcquireLock("r", "holder", lease=600, wait=60, notify="holder"), block=False)
    simulation.run_until_idle()
    holder.tell(Crash())
    simulation.run_until_idle()
    lock.ask(ReleaseLock("r", lease.token))
    simulation.run_until_idle()
    assert lock.ask(LockHolder("r")) is None


@pytest.mark.parametrize("faults", [FaultPlan().crash("lock", message=LockHolder)])
def test_a_holder_that_was_restarted_while_the_lock_actor_was_down_has_lost_its_lock(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    holder: Any = system.spawn(Falling, [], name="holder")
    lock.ask(AcquireLock("r", "holder", lease=600, notify="holder"))
    falls = lock.ask(LockHolder("r"), block=False)
    holder.tell(Crash())
    simulation.run_until_idle()
    with pytest.raises(HandlerFailed):
        falls.get(timeout=0)
    assert lock.incarnation == holder.incarnation == 2
    assert lock.ask(LockHolder("r")) is None


def test_a_lock_actor_that_has_ended_hears_of_no_restarts(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    subscribed = len(system.events._subscribers[ActorRestarted])
    lock.stop()
    simulation.run_until_idle()
    assert len(system.events._subscribers[ActorRestarted]) == subscribed - 1


def test_a_lock_that_a_holder_waits_for_as_it_ends_is_given_back(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    holder = system.spawn(Holder, [], name="holder")
    lease = lock.ask(AcquireLock("r", "ada", lease=600))
    waiting = lock.ask(AcquireLock("r", "holder", lease=600, wait=60, notify="holder"), block=False)
    holder.stop()
    lock.ask(ReleaseLock("r", lease.token))
    simulation.run_until_idle()
    assert waiting.get().owner == "holder"
    assert lock.ask(LockHolder("r")) is None


def test_a_released_holder_is_not_watched_any_more(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    holder = system.spawn(Holder, [], name="holder")
    lease = lock.ask(AcquireLock("r", "holder", notify="holder"))
    lock.ask(ReleaseLock("r", lease.token))
    assert not holder._cell.needs.watchers


@pytest.mark.parametrize("faults", [FaultPlan().crash("lock", message=LockHolder)])
def test_an_understudy_of_the_lock_actor_goes_on_looking_after_leases(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    holder = system.spawn(Holder, [], name="holder")
    lease = lock.ask(AcquireLock("r", "holder", lease=6, notify="holder", watchdog=True))
    with pytest.raises(HandlerFailed):
        lock.ask(LockHolder("r"))
    simulation.advance(60)
    assert lock.ask(LockHolder("r")).token == lease.token
    holder.stop()
    simulation.run_until_idle()
    assert lock.ask(LockHolder("r")) is None


def test_thousands_of_short_holds_leave_no_timers_behind(lock: Any, simulation: SimulatedDispatcher) -> None:
    for _ in range(500):
        lease = lock.ask(AcquireLock("r", "ada", lease=3600))
        lock.ask(ReleaseLock("r", lease.token))
    assert len(lock._cell.extras.timers) == 1


def test_tokens_grow_from_process_to_process() -> None:
    """A store on disk remembers the tokens of yesterday's process; today's must be greater."""
    yesterday = open_backend("memory://", Embedded(), lambda: 0.0)
    token = wall_clock.set(lambda: 2_000_000_000.0)
    try:
        today = open_backend("memory://", Embedded(), lambda: 0.0)
    finally:
        wall_clock.reset(token)
    assert 0 < token_of(yesterday) < token_of(today) < 2**53


def token_of(backend: Any) -> int:
    from understudy.actors.lock.backend import Acquire

    leases: list[Any] = []
    backend.acquire(Acquire("r", "ada", "wish", 1.0), leases.append, lambda lease: None)
    return int(leases[0].token)


def test_a_stalled_holder_is_refused_by_the_store(
    system: ActorSystem, lock: Any, simulation: SimulatedDispatcher
) -> None:
    """The holder is held up until its lease has run out; another works meanwhile; its late write changes nothing."""
    mutator = system.spawn(Mutator, "sqlite:///:memory:", name="mutator")

    def write(nid: str, lease: Lease) -> bool:
        data = NotifData(id=nid, receiver_info="1", action_data=None, actioner_info="2", fired_at=1)
        added: bool = mutator.ask(StoreNotifEvent(message=data, fence=lease.fence))
        return added

    stalled = lock.ask(AcquireLock("invoices", "ada", lease=5))
    assert write("a", stalled) is True
    simulation.advance(5)
    other = lock.ask(AcquireLock("invoices", "bob", lease=5))
    assert write("b", other) is True
    with pytest.raises(StorageError) as caught:
        write("c", stalled)
    assert caught.value.kind == "storage.fencing.stale"
