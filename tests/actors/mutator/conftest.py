"""What the store's contract tests run against: one entry in `STORES` for each backend."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from understudy.actors.mutator.backend import StoreBackend
from understudy.actors.mutator.sqlite import SqliteStore
from understudy.messages.errors import StorageError
from understudy.messages.lock import Fence
from understudy.messages.mutator import AllNotifs, NotifsOfOwner, StoreNotifEvent
from understudy.messages.notifications import NotifData


def _sqlite(request: pytest.FixtureRequest) -> Callable[[], StoreBackend]:
    path = request.getfixturevalue("tmp_path") / "store.db"
    return lambda: SqliteStore(str(path))


def _postgres(request: pytest.FixtureRequest) -> Callable[[], StoreBackend]:
    url = request.getfixturevalue("postgres_url")
    from understudy.actors.mutator.postgres.store import PostgresStore

    return lambda: PostgresStore(url)


STORES: Mapping[str, Callable[[pytest.FixtureRequest], Callable[[], StoreBackend]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
}


def notif(nid: str, **values: Any) -> NotifData:
    """A notification, the mission's own example unless said otherwise."""
    given = {
        "id": nid,
        "receiver_info": "1",
        "action_data": {"pid": 200.4},
        "actioner_info": "2",
        "fired_at": 1714316645,
    }
    return NotifData(**{**given, **values})


class Client:
    """One connection, with the words that the tests are written in."""

    def __init__(self, backend: StoreBackend) -> None:
        self.backend = backend

    def store(self, *notifs: NotifData, fence: tuple[str, int] | None = None) -> list[bool | str]:
        """Store notifications in one batch; a refusal is returned as its kind."""
        guarded = None if fence is None else Fence(*fence)
        events = [StoreNotifEvent(message=each, fence=guarded) for each in notifs]
        return self.run(*events)

    def run(self, *events: StoreNotifEvent) -> list[bool | str]:
        outcomes = self.backend.store(events, lambda: None)
        return [str(each.kind) if isinstance(each, StorageError) else each for each in outcomes]

    def seen(self, *ids: str) -> list[bool]:
        return self.backend.mark_seen(ids, lambda: None)

    def ids(self, **query: Any) -> list[str]:
        """The ids that a read finds: of `owner`, or of all."""
        found = (
            self.backend.of_owner(NotifsOfOwner(**query)) if "owner" in query else self.backend.all(AllNotifs(**query))
        )
        return [row.nid for row in found]


@pytest.fixture(params=sorted(STORES))
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[], Client]]:
    """Opens connections to one store that nobody else uses."""
    opened: list[Client] = []
    backend = STORES[request.param](request)

    def open_one() -> Client:
        opened.append(Client(backend()))
        return opened[-1]

    yield open_one
    for client in opened:
        client.backend.close()


@pytest.fixture
def client(connect: Callable[[], Client]) -> Client:
    return connect()


@pytest.fixture
def make_notif() -> Callable[..., NotifData]:
    return notif
