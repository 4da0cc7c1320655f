"""Requests to cache, lock, mutator and accessor that were made with values of wrong types.

A message's fields are checked where it comes from a wire. Made here it holds what it was given, and a service that
falls over one would fail the whole batch that it came with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from understudy.actors.cache.actor import Cache
from understudy.actors.lock.actor import Lock
from understudy.actors.mutator.accessor import Accessor
from understudy.actors.mutator.actor import Mutator
from understudy.messages import (
    AcquireLock,
    ActorError,
    AllNotifs,
    CacheAppend,
    CacheDelete,
    CacheExpire,
    CacheFetch,
    CacheGet,
    CacheItems,
    CacheRemaining,
    CacheSet,
    CountNotifs,
    ErrorKind,
    Fence,
    LockHolder,
    Message,
    NotifById,
    NotifData,
    NotifsOfOwner,
    ReleaseLock,
    RenewLock,
    SeenNotif,
    StoreNotifEvent,
    WriteStatement,
    statement,
)
from understudy.supervisors.system import ActorSystem
from understudy.testing import SimulatedDispatcher

from ..naming import shown

WRONG: list[Any] = [
    None, 5, -1, 1.5, float("nan"), True, "text", "", "\ud800", "\0", b"bytes", object(), [], {}, {"lock": "l"}, int,
    CacheGet("k"), 2**70,
]  # fmt: skip
"""What a field may be given that takes something else; a field that takes one of them is given it, too."""

NOTIF: dict[str, Any] = {"receiver_info": "1", "action_data": 1, "actioner_info": "2", "fired_at": 1}


@statement("UPDATE notifs SET is_seen = %(seen)s WHERE nid = %(nid)s")
class Mark(WriteStatement[int], kw_only=True):
    seen: bool = True
    nid: str = "good"


class Service(NamedTuple):
    """A service and requests to it that are right, each to be made wrong in every field."""

    actor: type[Any]
    urls: tuple[str, ...]
    right: dict[type[Message[Any]], dict[str, Any]]
    kinds: frozenset[str]


CACHE = Service(
    Cache,
    ("memory://", "redis_url"),
    {
        CacheGet: {"key": "v"},
        CacheSet: {"key": "w", "value": 1},
        CacheAppend: {"key": "l", "item": 1},
        CacheItems: {"key": "l"},
        CacheDelete: {"key": "d"},
        CacheExpire: {"key": "e", "expires": 5},
        CacheRemaining: {"key": "e"},
        CacheFetch: {"key": "v", "maker": "nobody", "request": CacheGet("k")},
    },
    frozenset({ErrorKind.CACHE_REQUEST_INVALID}),
)
LOCK = Service(
    Lock,
    ("memory://", "postgres_url", "redis_url"),
    {
        AcquireLock: {"name": "l", "owner": "ada"},
        RenewLock: {"name": "l", "token": 1},
        ReleaseLock: {"name": "l", "token": 1},
        LockHolder: {"name": "l"},
    },
    frozenset({ErrorKind.LOCK_REQUEST_INVALID}),
)
READS: dict[type[Message[Any]], dict[str, Any]] = {
    NotifsOfOwner: {"owner": "1"},
    AllNotifs: {},
    NotifById: {"id": "good"},
    CountNotifs: {},
}
ACCESSOR = Service(Accessor, ("sqlite:///:memory:",), READS, frozenset({ErrorKind.QUERY_INVALID}))
MUTATOR = Service(
    Mutator,
    ("sqlite:///:memory:", "postgres_url"),
    {StoreNotifEvent: {"message": NotifData(id="a", **NOTIF)}, SeenNotif: {"id": "good"}, Mark: {}, **READS},
    frozenset({ErrorKind.QUERY_INVALID, ErrorKind.ROW_INVALID}),
)
CASES = [
    pytest.param(service, url, id=f"{service.actor.__name__}-{url}")
    for service in (CACHE, LOCK, ACCESSOR, MUTATOR)
    for url in service.urls
]


@pytest.fixture
def simulation() -> SimulatedDispatcher:
    return SimulatedDispatcher(1)


@pytest.fixture
def system(simulation: SimulatedDispatcher) -> Iterator[ActorSystem]:
    with ActorSystem("shop", dispatcher=simulation) as system:
        yield system


def spawned(system: ActorSystem, request: pytest.FixtureRequest, service: Service, url: str) -> Any:
    if url == "redis_url":
        url = f"{request.getfixturevalue('redis_url')}?prefix={request.getfixturevalue('redis_prefix')}"
    elif url == "postgres_url":
        url = request.getfixturevalue("postgres_url")
    return system.spawn(service.actor, url, name="service")


def outcome(answer: Any) -> str:
    """The kind of a refusal, or "done"."""
    try:
        answer.get(timeout=30)
    except ActorError as error:
        return str(error.kind)
    return "done"


@pytest.mark.parametrize(("service", "url"), CASES)
def test_a_wrong_value_is_refused_with_a_code_and_harms_nobody(
    system: ActorSystem, request: pytest.FixtureRequest, service: Service, url: str
) -> None:
    """Every field of every request, with every kind of value; what comes with it in one batch is done."""
    actor = spawned(system, request, service, url)
    for message_type, right in service.right.items():
        for name in message_type.__struct_fields__:
            wrong = [message_type(**{**right, name: value}) for value in WRONG]
            batch = [message_type(**right), *wrong, message_type(**right)]
            answers = [actor.ask(message, block=False) for message in batch]
            outcomes = [outcome(answer) for answer in answers]
            for message, what in zip(batch, outcomes, strict=True):
                assert "handler" not in what, f"{message!r}: {what}"
                assert "failed" not in what, f"{message!r}: {what}"
                assert "unavailable" not in what, f"{message!r}: {what}"
            assert actor.incarnation == 1
            assert outcomes[0] == outcomes[-1] or "lock" in outcomes[-1]


OBVIOUS: list[tuple[Service, Message[Any]]] = [
    *((CACHE, message) for message in (CacheGet(None), CacheSet(5, 1), CacheSet("k", object()),  # type: ignore[arg-type]
        CacheAppend("k", 1, item_id=5), CacheAppend("k", 1, limit="5"), CacheItems("k", last=0),  # type: ignore[arg-type]
        CacheExpire("k", "soon"), CacheSet("k", 1, expires=True), CacheDelete([]),  # type: ignore[arg-type]
        CacheFetch([], "a", CacheGet("k")), CacheFetch("k", 5, CacheGet("k")), CacheFetch("k", "a", 5))),  # type: ignore[arg-type]
    *((LOCK, message) for message in (AcquireLock(3, "ada"), AcquireLock("l", None), AcquireLock("l", "a", "1"),  # type: ignore[arg-type]
        AcquireLock("l", "a", wait=None), AcquireLock("l", "a", notify=5), RenewLock("l", "1"), ReleaseLock(3, 1),  # type: ignore[arg-type]
        ReleaseLock("l", 1.5), LockHolder(None), RenewLock("l", 0))),  # type: ignore[arg-type]
    *((MUTATOR, message) for message in (StoreNotifEvent(message=None), StoreNotifEvent(message={"id": "a"}),  # type: ignore[arg-type]
        StoreNotifEvent(message=NotifData(id="a", **NOTIF), fence=5),  # type: ignore[arg-type]
        StoreNotifEvent(message=NotifData(id="a", **NOTIF), fence=Fence(5, "x")),  # type: ignore[arg-type]
        SeenNotif(5), Mark(fence="x"), Mark(key=5), NotifById(5), CountNotifs(5), NotifsOfOwner(owner=None),  # type: ignore[arg-type]
        AllNotifs(to="10"))),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "message"), OBVIOUS, ids=lambda each: shown(each) if isinstance(each, Message) else ""
)
def test_a_wrong_request_has_its_services_code_and_names_the_field(
    system: ActorSystem, service: Service, message: Message[Any]
) -> None:
    """The same whichever backend there is: the actor looks before it goes to work."""
    actor = system.spawn(service.actor, service.urls[0], name="service")
    with pytest.raises(ActorError) as caught:
        actor.ask(message, timeout=30)
    assert caught.value.kind in service.kinds, caught.value
    assert not caught.value.response.retryable
    assert caught.value.message_type == type(message).__name__
    assert actor.incarnation == 1
