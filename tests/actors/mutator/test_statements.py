"""Statements of the user's own: typed, in one transaction, each once, on every store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from understudy.actors.mutator.backend import Attempt
from understudy.messages.errors import ActorError, SpecInvalid, StorageError
from understudy.messages.lock import Fence
from understudy.messages.message import Message
from understudy.messages.statements import ReadStatement, WriteStatement, statement, statement_of

TABLE = 'odd "name"; DROP TABLE notifs'
ODD = {"table": TABLE}


class Invoice(msgspec.Struct, frozen=True):
    number: str
    amount: int
    paid: bool


@statement(
    "CREATE TABLE {table} (number TEXT PRIMARY KEY, amount BIGINT NOT NULL CHECK (amount > 0), paid BOOLEAN NOT NULL)",
    identifiers=ODD,
)
class CreateInvoices(WriteStatement[None]):
    """Make the table."""


@statement("INSERT INTO {table} (number, amount, paid) VALUES (%(number)s, %(amount)s, FALSE)", identifiers=ODD)
class AddInvoice(WriteStatement[int]):
    number: str
    amount: int


@statement("UPDATE {table} SET amount = amount + %(by)s WHERE number = %(number)s", identifiers=ODD)
class Raise(WriteStatement[bool]):
    number: str
    by: int


@statement(
    "UPDATE {table} SET amount = amount + 1 WHERE number = %(number)s RETURNING number, amount, paid", identifiers=ODD
)
class RaiseByOne(WriteStatement[Invoice | None]):
    number: str


@statement("SELECT number, amount, paid FROM {table} WHERE amount >= %(least)s ORDER BY number", identifiers=ODD)
class Invoices(ReadStatement[list[Invoice]]):
    least: int = 0


@statement("SELECT sum(amount)::bigint FROM {table}", sqlite="SELECT sum(amount) FROM {table}", identifiers=ODD)
class Total(ReadStatement[int | None]):
    """The sum of all amounts."""


@statement("SELECT '%%' || %(text)s", sqlite="SELECT '%%' || %(text)s")
class Echo(ReadStatement[str | None]):
    text: Any


ADDING = "INSERT INTO {table} (number, amount, paid) VALUES (%(number)s, 1, FALSE) "


@statement(ADDING + "RETURNING 'NaN'::float8", sqlite=ADDING + "RETURNING 9e999", identifiers=ODD)
class AddForNothing(WriteStatement[list[float]]):
    number: str


@statement(
    ADDING + "RETURNING repeat('x', 2000000)", sqlite=ADDING + "RETURNING hex(zeroblob(1000000))", identifiers=ODD
)
class AddForTooMuch(WriteStatement[str | None]):
    number: str


@statement("DELETE FROM {table}", identifiers=ODD)
class Sneaky(ReadStatement[list[int]]):
    """Writes, and says that it reads."""


@statement("SELEKT 1")
class Typo(WriteStatement[None]):
    """No SQL."""


@statement("")
class Empty(WriteStatement[int]):
    """Nothing at all."""


@statement(" ;-- a remark\n /* and\nanother */ ")
class Remarks(WriteStatement[int]):
    """Nothing that could be done."""


@statement(" -- nothing to be read")
class Nothing(ReadStatement[list[int]]):
    """Reads nothing."""


class Undeclared(WriteStatement[None]):
    """Somebody forgot the decorator."""


@pytest.fixture
def store(client: Any) -> Any:
    """A backend with the table of invoices."""
    assert run(client.backend, CreateInvoices()) == [None]
    return client.backend


def run(backend: Any, *messages: WriteStatement[Any], attempt: Attempt | None = None) -> list[Any]:
    """Write in one batch; a refusal is returned as its kind."""
    outcomes = backend.write(messages, lambda: None, attempt)
    return [str(each.kind) if isinstance(each, ActorError) else each for each in outcomes]


def test_statements_have_typed_replies(store: Any) -> None:
    assert run(store, AddInvoice("a", 5), AddInvoice("b", 7)) == [1, 1]
    assert run(store, Raise("a", 1), Raise("x", 1)) == [True, False]
    assert run(store, RaiseByOne("a"), RaiseByOne("x")) == [Invoice("a", 7, False), None]
    assert store.read(Invoices()) == [Invoice("a", 7, False), Invoice("b", 7, False)]
    assert store.read(Invoices(8)) == []
    assert store.read(Total()) == 14
    assert store.read(Echo("it's 100 %s")) == "%it's 100 %s"


def test_a_value_never_becomes_part_of_the_text(store: Any) -> None:
    nasty = "'); DROP TABLE notifs; -- %(number)s {table} :number ?"
    assert run(store, AddInvoice(nasty, 1)) == [1]
    assert store.read(Invoices()) == [Invoice(nasty, 1, False)]
    assert store.count(None) == 0


def test_one_that_is_refused_fails_alone(store: Any) -> None:
    outcomes = run(
        store,
        AddInvoice("a", 5),
        AddInvoice("a", 6),
        AddInvoice("b", -1),
        Typo(),
        Undeclared(),
        AddInvoice("c", 2**70),
        AddInvoice("\ud800", 1),
        AddInvoice("d", 7),
    )
    row, query, declared = "storage.row.invalid", "storage.query.invalid", "config.statement.invalid"
    assert outcomes == [1, row, row, query, declared, row, row, 1]
    assert [each.number for each in store.read(Invoices())] == ["a", "d"]


def test_a_statement_that_says_nothing_is_refused_alone(store: Any) -> None:
    query = "storage.query.invalid"
    assert run(store, AddInvoice("a", 5), Empty(), Remarks(), AddInvoice("b", 7)) == [1, query, query, 1]
    with pytest.raises(StorageError) as caught:
        store.read(Nothing())
    assert caught.value.kind == query
    assert [each.number for each in store.read(Invoices())] == ["a", "b"]


def test_no_text_has_a_nul_character(store: Any) -> None:
    """PostgreSQL has no such texts; what one store refuses all of them do."""
    row = "storage.row.invalid"
    keyed = AddInvoice("b", 1, key="a\0b")
    fenced = AddInvoice("c", 1, fence=Fence("a\0b", 1))
    assert run(store, AddInvoice("a\0b", 1), keyed, fenced, AddInvoice("d", 1)) == [row, row, row, 1]
    with pytest.raises(StorageError) as caught:
        store.read(Echo("a\0b"))
    assert caught.value.kind == "storage.query.invalid"
    assert [each.number for each in store.read(Invoices())] == ["d"]


def test_a_statement_of_a_known_key_is_not_run_again(store: Any) -> None:
    run(store, AddInvoice("a", 5))
    assert run(store, Raise("a", 1, key="k"), Raise("a", 1, key="k")) == [True, True]
    assert run(store, Raise("a", 1, key="k"), RaiseByOne("a", key="l")) == [True, Invoice("a", 7, False)]
    assert run(store, RaiseByOne("a", key="l")) == [Invoice("a", 7, False)]
    assert store.read(Total()) == 7


@pytest.mark.parametrize(
    ("poisoned", "kind"),
    [(AddForNothing("b", key="k"), "codec.number.not_finite"), (AddForTooMuch("b", key="k"), "codec.body.too_large")],
)
def test_one_whose_reply_cannot_be_remembered_fails_alone(store: Any, poisoned: WriteStatement[Any], kind: str) -> None:
    """What it has changed is not kept: its repetition could not be answered as it was."""
    assert run(store, AddInvoice("a", 5, key="a"), poisoned, AddInvoice("c", 6)) == [1, kind, 1]
    assert run(store, AddInvoice("a", 5, key="a"), AddInvoice("b", 1, key="k")) == [1, 1]
    assert [each.number for each in store.read(Invoices())] == ["a", "b", "c"]


def test_a_known_key_with_a_reply_of_another_type_is_refused_alone(store: Any) -> None:
    row = "storage.row.invalid"
    again = (Raise("a", 1, key="k"), AddInvoice("a", 5, key="k"), RaiseByOne("a", key="k"), AddInvoice("b", 7))
    assert run(store, AddInvoice("a", 5, key="k"), *again) == [1, row, 1, row, 1]
    assert run(store, *again[:3], Raise("b", 1)) == [row, 1, row, True]
    assert store.read(Total()) == 13


def test_one_that_was_refused_may_be_repeated_under_its_key(store: Any) -> None:
    assert run(store, AddInvoice("a", -5, key="k")) == ["storage.row.invalid"]
    assert run(store, AddInvoice("a", 5, key="k")) == [1]


def test_an_attempt_that_is_repeated_does_nothing_twice(store: Any) -> None:
    """What the mutator does after a commit of which it did not hear."""
    attempt, messages = Attempt(), (AddInvoice("a", 5), Raise("a", 1), Raise("a", 1))
    assert run(store, *messages, attempt=attempt) == [1, True, True]
    assert run(store, *messages[1:], attempt=attempt) == [True, True]
    assert store.read(Total()) == 7


def test_a_stale_token_is_refused(store: Any) -> None:
    run(store, AddInvoice("a", 5))
    assert run(store, Raise("a", 1, fence=Fence("lock", 7))) == [True]
    stale = "storage.fencing.stale"
    assert run(store, Raise("a", 1, fence=Fence("lock", 6), key="k"), Raise("a", 1)) == [stale, True]
    assert run(store, Raise("a", 1, fence=Fence("other", 2)), Raise("a", 1, fence=Fence("other", 1))) == [True, stale]
    assert run(store, Raise("a", 1, fence=Fence("lock", 7), key="k")) == [True]
    assert store.read(Total()) == 9


def test_nothing_is_kept_if_the_guard_refuses_the_commit(store: Any) -> None:
    def refuse() -> None:
        raise RuntimeError("fenced")

    with pytest.raises(RuntimeError, match="fenced"):
        store.write([AddInvoice("a", 5, key="k")], refuse)
    assert store.read(Invoices()) == []
    assert run(store, AddInvoice("a", 5, key="k")) == [1]


@pytest.mark.parametrize("message", [Sneaky(), Echo(object()), Echo("\ud800"), Echo("\ud800" * 2)])
def test_a_read_that_cannot_be_is_refused(store: Any, message: ReadStatement[Any]) -> None:
    run(store, AddInvoice("a", 5))
    with pytest.raises(StorageError) as caught:
        store.read(message)
    assert caught.value.kind in ("storage.query.invalid", "storage.row.invalid")
    assert store.read(Total()) == 5


def test_writers_at_the_same_time_do_not_lose_each_others_work(connect: Callable[[], Any], client: Any) -> None:
    """Two connections raise the same rows in opposite order, which ends in deadlocks that are resolved."""
    run(client.backend, CreateInvoices(), AddInvoice("a", 1), AddInvoice("b", 1))
    refused: list[Any] = []

    def work(backend: Any, numbers: str) -> None:
        for _ in range(40):
            outcomes = run(backend, *(Raise(number, 1) for number in numbers))
            refused.extend(outcome for outcome in outcomes if outcome is not True)

    threads = [threading.Thread(target=work, args=(connect().backend, numbers)) for numbers in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert client.backend.read(Total()) == 2 + 160


# --- declarations


def test_what_cannot_work_is_refused_where_it_is_declared() -> None:
    def declare(text: str, reply: Any = int, **given: Any) -> None:
        class Bad(WriteStatement[reply]):
            number: str

        statement(text, **given)(Bad)

    declare("UPDATE t SET n = %(number)s")
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        (("UPDATE t SET n = %(nubmer)s",), {}, "nubmer"),
        (("UPDATE t SET n = %s",), {}, "%s in a statement"),
        (("UPDATE t SET n = 5 % 3",), {}, "%% for a per cent sign"),
        (("UPDATE t SET n = 1", str), {}, "reply cannot be"),
        (("UPDATE {t} SET n = 1",), {"identifiers": {"t": ""}}, "give a name"),
    ]
    for arguments, named, text in wrong:
        with pytest.raises(SpecInvalid, match=text) as caught:
            declare(*arguments, **named)
        assert caught.value.kind == "config.statement.invalid"


def test_a_message_that_was_not_declared_says_so() -> None:
    with pytest.raises(SpecInvalid, match="Undeclared: it is not declared"):
        statement_of(Undeclared())


def test_a_declaration_says_what_its_fields_are() -> None:
    declared = statement_of(AddInvoice("a", 5))
    assert declared.values(AddInvoice("a", 5)) == {"number": "a", "amount": 5}
    assert declared.identifiers == {"table": (TABLE,)}


class Moment(Message[None]):
    at: datetime


@statement("SELECT %(at)s::timestamptz AS at", sqlite="SELECT %(at)s AS at")
class Now(ReadStatement[Moment | None]):
    at: datetime


def test_times_come_back_as_times(store: Any) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert store.read(Now(at)) == Moment(at)
