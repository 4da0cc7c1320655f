"""Reading notifications: the same questions to every database that speaks SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import orjson

from ...messages.errors import ErrorKind, StorageError
from ...messages.mutator import AllNotifs, NotifRow, NotifsOfOwner
from ...messages.notifications import ActionType
from .backend import TIMEOUT, page_of
from .plan import check_query

__all__ = ["NotifReader"]


class NotifReader(ABC):
    """The reads of a store, over one method that runs a query.

    Attributes:
        _columns: What is selected of a row, in the order of `NotifRow`: the data as JSON text, the time as seconds.
        _mark: What stands for a value in a statement.
    """

    _columns: ClassVar[str]
    _mark: ClassVar[str]

    @abstractmethod
    def _query(self, statement: str, arguments: tuple[object, ...], timeout: float) -> list[tuple[Any, ...]]:
        """Run a statement that changes nothing, for at most `timeout` seconds, and return its rows.

        Raises:
            StorageError: `storage.query.invalid` where a value is at fault; otherwise as `StoreBackend.of_owner`.
        """

    def of_owner(self, query: NotifsOfOwner, *, timeout: float = TIMEOUT) -> list[NotifRow]:
        """See `StoreBackend.of_owner`."""
        check_query(query.owner)
        unseen = " AND NOT is_seen" if query.unseen_only else ""
        return self._page(f"WHERE receiver_info = {self._mark}{unseen}", (query.owner,), query, timeout)

    def all(self, query: AllNotifs, *, timeout: float = TIMEOUT) -> list[NotifRow]:
        """See `StoreBackend.all`."""
        return self._page("WHERE NOT is_seen" if query.unseen_only else "", (), query, timeout)

    def by_id(self, nid: str, *, timeout: float = TIMEOUT) -> NotifRow | None:
        """See `StoreBackend.by_id`."""
        check_query(nid)
        return next(iter(self._rows(f"WHERE nid = {self._mark}", (nid,), timeout)), None)

    def count(self, owner: str | None, *, timeout: float = TIMEOUT) -> int:
        """See `StoreBackend.count`."""
        where = ""
        arguments: tuple[object, ...] = ()
        if owner is not None:
            check_query(owner)
            where, arguments = f"WHERE receiver_info = {self._mark}", (owner,)
        ((number,),) = self._query(f"SELECT count(*) FROM notifs {where}", arguments, timeout)
        return int(number)

    def _page(
        self, where: str, arguments: tuple[object, ...], query: NotifsOfOwner | AllNotifs, timeout: float
    ) -> list[NotifRow]:
        """A page of what fits, newest first."""
        offset, size = page_of(query)
        ordered = f"{where} ORDER BY fired_at DESC, id DESC LIMIT {self._mark} OFFSET {self._mark}"
        return self._rows(ordered, (*arguments, size, offset), timeout)

    def _rows(self, rest: str, arguments: tuple[object, ...], timeout: float) -> list[NotifRow]:
        """The rows that a query finds, given what follows the table's name."""
        found = self._query(f"SELECT {self._columns} FROM notifs {rest}", arguments, timeout)
        return [_row(values) for values in found]


def _row(values: tuple[Any, ...]) -> NotifRow:
    number, receiver, nid, data, actioner, action_type, fired_at, seen = values
    try:
        return NotifRow(
            id=number,
            receiver_info=receiver,
            nid=nid,
            action_data=orjson.loads(data),
            actioner_info=actioner,
            action_type=ActionType(action_type),
            fired_at=fired_at,
            is_seen=bool(seen),
        )
    except ValueError as error:
        raise StorageError(f"row {number}: {error}", kind=ErrorKind.ROW_INVALID, cause=error) from error
