"""What the store's contract tests run against: one entry in `STORES` for each backend."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from understudy.actors.mutator.backend import StoreBackend
from understudy.actors.mutator.sqlite import SqliteStore
from understudy.messages.errors import StorageError
from understudy.messages.lock import Fence
from understudy.messages.mutator import AllNotifs, NotifsOfOwner, StoreNotifEvent
from understudy.messages.notifications import NotifData


def _sqlite(folder: Path) -> Callable[[], StoreBackend]:
    return lambda: SqliteStore(str(folder / "store.db"))


STORES: Mapping[str, Callable[[Path], Callable[[], StoreBackend]]] = {"sqlite": _sqlite}


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
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Client]]:
    """Opens connections to one store that nobody else uses."""
    opened: list[Client] = []
    backend = STORES[request.param](tmp_path)

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
