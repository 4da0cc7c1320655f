"""The lock contract: leases, tokens, the line, and what becomes of a lease that nobody releases."""

from collections.abc import Callable
from typing import Any

import pytest

from understudy.actors.lock.backend import Acquire, Lease
from understudy.messages.errors import LockError


def kinds(answers: list[Lease | LockError]) -> list[str]:
    return [str(answer.kind) if isinstance(answer, LockError) else "granted" for answer in answers]


def test_a_free_lock_is_granted_for_its_time(client: Any) -> None:
    lease = client.take("invoice 7", owner="ada", ttl=5)
    assert (lease.resource, lease.owner) == ("invoice 7", "ada")
    assert lease.expires_at == client.clock.now + 5
    assert client.backend.holder("invoice 7") == lease
    assert client.backend.holder("invoice 8") is None


def test_a_held_lock_is_not_granted_to_another(client: Any) -> None:
    client.take(owner="ada")
    (refused,) = client.ask(owner="bob")
    assert refused.kind == "lock.timeout"
    assert "'ada' holds it, 'bob' did not get it within 0.0 s" in str(refused)


def test_different_resources_do_not_meet(client: Any) -> None:
    client.take("one")
    client.take("two")


def test_tokens_only_grow_through_release_and_expiry_and_across_resources(client: Any) -> None:
    tokens = []
    for resource in ("one", "two", "one", "one"):
        lease = client.take(resource, ttl=10)
        tokens.append(lease.token)
        client.backend.release(resource, lease.token)
    tokens.append(client.take("one", ttl=1).token)
    client.pass_time(2)
    tokens.append(client.take("one").token)
    assert tokens == sorted(set(tokens))


def test_who_asked_first_gets_it_first(client: Any) -> None:
    lease = client.take()
    waiting = [client.ask(owner=owner, wait=60) for owner in ("bob", "eve", "joe")]
    order = []
    for _ in range(3):
        client.backend.release("r", lease.token)
        lease = client.backend.holder("r")
        order.append(lease.owner)
    assert order == ["bob", "eve", "joe"]
    assert [kinds(answers) for answers in waiting] == [["granted"]] * 3


def test_a_newcomer_does_not_overtake_the_line(client: Any) -> None:
    first = client.take()
    second = client.ask(owner="bob", wait=60)
    client.backend.release("r", first.token)
    assert kinds(second) == ["granted"]
    assert kinds(client.ask(owner="eve")) == ["lock.timeout"]


def test_waiting_ends_at_its_deadline_and_the_line_moves_up(client: Any) -> None:
    lease = client.take(ttl=100)
    impatient, patient = client.ask(wait=1), client.ask(wait=60)
    client.pass_time(1)
    assert kinds(impatient) == ["lock.timeout"]
    client.backend.release("r", lease.token)
    assert kinds(patient) == ["granted"]
    assert kinds(impatient) == ["lock.timeout"]


def test_a_lease_that_runs_out_is_reported_and_handed_on(client: Any) -> None:
    lease = client.take(ttl=5)
    waiting = client.ask(owner="bob", ttl=5, wait=60)
    client.pass_time(4.9)
    assert (client.lost, waiting) == ([], [])
    client.pass_time(0.1)
    assert client.lost == [lease]
    (granted,) = waiting
    assert (granted.owner, granted.expires_at) == ("bob", client.clock.now + 5)
    client.pass_time(5)
    assert client.lost == [lease, granted]
    assert client.backend.next_tick() is None


def test_time_that_is_noticed_late_grants_to_those_who_still_wait(client: Any) -> None:
    client.take(ttl=5)
    gone, waiting = client.ask(wait=6), client.ask(wait=60, ttl=5)
    client.clock.now += 30
    client.backend.tick()
    assert kinds(gone) == ["lock.timeout"]
    (granted,) = waiting
    assert granted.expires_at == client.clock.now + 5


def test_an_expired_lease_does_not_wait_for_a_tick_to_be_free(client: Any) -> None:
    lease = client.take(ttl=5)
    client.clock.now += 5
    assert client.backend.holder("r") is None
    assert client.take(owner="bob").token > lease.token
    assert client.lost == [lease]


def test_asking_again_with_the_same_id_gives_the_same_lease(client: Any) -> None:
    lease = client.take(id_="wish")
    client.clock.now += 1
    assert client.ask(id_="wish") == [lease]


def test_asking_again_while_waiting_keeps_one_place_in_line(client: Any) -> None:
    lease = client.take()
    once, again, other = (client.ask(id_=id_, wait=60) for id_ in ("wish", "wish", "other"))
    client.backend.release("r", lease.token)
    assert once == again
    assert kinds(once) == ["granted"]
    assert other == []
    client.backend.release("r", once[0].token)
    assert kinds(other) == ["granted"]
    client.backend.release("r", other[0].token)
    assert client.backend.holder("r") is None


def test_renewing_moves_the_end(client: Any) -> None:
    lease = client.take(ttl=5)
    client.pass_time(4)
    renewed = client.backend.renew("r", lease.token, 5)
    assert (renewed.token, renewed.expires_at) == (lease.token, client.clock.now + 5)
    client.pass_time(4)
    assert client.lost == []
    client.pass_time(1)
    assert client.lost == [renewed]


def test_a_lease_may_be_renewed_for_less(client: Any) -> None:
    lease = client.take(ttl=50)
    client.backend.renew("r", lease.token, 5)
    client.pass_time(5)
    assert len(client.lost) == 1


def test_releasing_twice_is_no_error(client: Any) -> None:
    lease = client.take()
    assert client.backend.release("r", lease.token) is True
    assert client.backend.release("r", lease.token) is False
    assert client.lost == []


@pytest.mark.parametrize("verb", ["renew", "release"])
def test_a_lease_that_was_lost_cannot_be_used(client: Any, verb: str) -> None:
    def use(token: int, resource: str = "r") -> str:
        with pytest.raises(LockError) as caught:
            getattr(client.backend, verb)(resource, token, *([5] if verb == "renew" else []))
        return str(caught.value.kind)

    old = client.take(ttl=1)
    client.pass_time(1)
    assert use(old.token) == "lock.lease.lost"
    new = client.take()
    assert use(old.token) == "lock.lease.lost"
    client.backend.release("r", new.token)
    assert use(old.token) == "lock.token.stale"
    newest = client.take()
    assert use(old.token) == "lock.token.stale"
    assert use(newest.token + 1) == "lock.not_held"
    assert use(newest.token, "another") == "lock.not_held"
    assert client.backend.holder("r") == newest


def test_a_released_lease_cannot_be_renewed(client: Any) -> None:
    lease = client.take()
    client.backend.release("r", lease.token)
    with pytest.raises(LockError) as caught:
        client.backend.renew("r", lease.token, 5)
    assert caught.value.kind == "lock.not_held"
    client.take()
    with pytest.raises(LockError) as caught:
        client.backend.renew("r", lease.token, 5)
    assert caught.value.kind == "lock.token.stale"


def test_a_waiter_may_leave_the_line(client: Any) -> None:
    lease = client.take()
    leaving, staying = client.ask(id_="leaving", wait=60), client.ask(wait=60)
    assert client.backend.withdraw("r", "leaving") is True
    assert client.backend.withdraw("r", "leaving") is False
    assert client.backend.withdraw("other", "leaving") is False
    client.backend.release("r", lease.token)
    assert leaving == []
    assert kinds(staying) == ["granted"]


def test_a_closed_connection_leaves_the_line_but_keeps_its_leases(connect: Callable[[], Any]) -> None:
    fallen, other = connect(), connect()
    lease = fallen.take(ttl=5)
    waiting = fallen.ask(wait=60)
    fallen.backend.close()
    fallen.backend.close()
    assert kinds(waiting) == ["lock.closed"]
    assert kinds(fallen.ask()) == ["lock.closed"]
    for verb, arguments in (("renew", (lease.token, 5)), ("release", (lease.token,)), ("holder", ())):
        with pytest.raises(LockError) as caught:
            getattr(fallen.backend, verb)("r", *arguments)
        assert caught.value.kind == "lock.closed"
    assert other.backend.holder("r") == (None if other.bound else lease)
    patient = other.ask(wait=60)
    other.pass_time(5)
    assert kinds(patient) == ["granted"]
    assert patient[0].token > lease.token


def test_an_understudy_that_asks_again_takes_the_lease_over(connect: Callable[[], Any]) -> None:
    """The same wish on a new connection is the same lease, and its loss is told to the one who asked last."""
    fallen, understudy = connect(), connect()
    lease = fallen.take(ttl=5, id_="wish")
    if understudy.bound:
        assert kinds(understudy.ask(id_="wish")) == ["lock.timeout"]
        fallen.backend.close()
        assert understudy.take(id_="wish").token > lease.token
        return
    assert understudy.ask(id_="wish") == [lease]
    fallen.backend.close()
    understudy.pass_time(5)
    assert (fallen.lost, understudy.lost) == ([], [lease])


@pytest.mark.parametrize(
    "wrong",
    [
        {"resource": ""},
        {"request_id": ""},
        {"ttl": 0.0},
        {"ttl": float("inf")},
        {"ttl": float("nan")},
        {"wait": -1.0},
        {"wait": float("inf")},
    ],
)
def test_what_cannot_be_asked_for_is_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"resource": "r", "owner": "ada", "request_id": "id", "ttl": 1.0}
    with pytest.raises(LockError) as caught:
        Acquire(**{**right, **wrong})
    assert caught.value.kind == "lock.request.invalid"


def test_a_lease_cannot_be_renewed_for_no_time(client: Any) -> None:
    lease = client.take()
    with pytest.raises(LockError) as caught:
        client.backend.renew("r", lease.token, 0)
    assert caught.value.kind == "lock.request.invalid"
