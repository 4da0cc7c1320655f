"""What locks need in a PostgreSQL database; made by the first client that comes."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.sql import SQL, Literal

from ...messages.caller import wall_clock

__all__ = ["CLIENTS", "prepare"]

CLIENTS: Final = 0x756E6473
"""The first half of the advisory lock that each client holds on its own number, to show that it lives."""

_SCHEMA: Final = (
    "SELECT pg_advisory_xact_lock(%s, 0)",
    """
    CREATE TABLE IF NOT EXISTS understudy_locks (
        resource BYTEA PRIMARY KEY,
        token BIGINT,
        owner TEXT,
        request_id BYTEA,
        client BIGINT,
        last BIGINT,
        released BOOLEAN NOT NULL DEFAULT TRUE
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS understudy_lock_line (
        place BIGSERIAL PRIMARY KEY,
        resource BYTEA NOT NULL,
        request_id BYTEA NOT NULL,
        client BIGINT NOT NULL,
        UNIQUE (resource, request_id)
    )
    """,
    "CREATE SEQUENCE IF NOT EXISTS understudy_lock_clients MAXVALUE 2147483647 CYCLE",
)


def prepare(db: psycopg.Connection[Any], client: int, earlier: int) -> int:
    """Make what is missing, and take this client's own lock.

    Args:
        db: A new connection, in autocommit mode.
        client: The client's number; 0 for a new one.
        earlier: The process of its earlier session, which may not have noticed yet that it is over; 0 for none.

    Returns:
        The client's number.

    Raises:
        psycopg.Error: The server, or its rights, do not allow it.
    """
    row = db.execute("SELECT to_regclass('understudy_lock_tokens') IS NULL").fetchone()
    if row is not None and row[0]:
        # As everywhere: greater than all tokens that another backend can have given out before.
        first = int(wall_clock.get()() * 1000) << 10
        with db.transaction():
            db.execute(_SCHEMA[0], (CLIENTS,))
            for statement in _SCHEMA[1:]:
                db.execute(statement)
            db.execute(SQL("CREATE SEQUENCE IF NOT EXISTS understudy_lock_tokens START WITH {}").format(Literal(first)))
    if earlier:
        db.execute("SELECT pg_terminate_backend(%s)", (earlier,))
    if not client:
        (client,) = db.execute("SELECT nextval('understudy_lock_clients')").fetchone() or (0,)
        db.execute("DELETE FROM understudy_lock_line WHERE client = %s", (client,))
    db.execute("SELECT pg_advisory_lock(%s, %s)", (CLIENTS, client))
    return client
