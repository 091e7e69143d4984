"""Events in the caller's own database transaction; the service takes no part in it.

One plain INSERT through the caller's connection. Nothing is begun, committed
or rolled back here, no id is chosen, and what the driver raises is its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .events import checked_json, checked_table, checked_type

# `ts` is UTC whatever the time zone of the session is.
_NOW = {
    "sqlite": "CURRENT_TIMESTAMP",
    "postgresql": "CURRENT_TIMESTAMP AT TIME ZONE 'UTC'",
    "mysql": "UTC_TIMESTAMP()",
    "mariadb": "UTC_TIMESTAMP()",
}

_QUEUE = "evt_queue"


def add_event(connection: Any, type: str, data: Any, *, table: str = _QUEUE) -> None:
    """Adds an event in the transaction that `connection` is in; it is delivered when that commits.

    `connection` is one of `sqlite3`, `psycopg`, `pymysql` or `MySQLdb`, or a `Connection` or `Session` of SQLAlchemy.
    `data` is any value that `json.dumps` takes, or `JsonText`. Raises `InvalidEvent` before anything is sent,
    `TypeError` for other connections, and what the driver raises.
    """
    insert = _way(connection, _SYNC, "add_event_async", _ASYNC)
    insert(connection, checked_table(table), checked_type(type), checked_json(data))


async def add_event_async(connection: Any, type: str, data: Any, *, table: str = _QUEUE) -> None:
    """`add_event` for a connection of `asyncpg`, an `AsyncConnection` of `psycopg`, or an `AsyncConnection` or
    `AsyncSession` of SQLAlchemy.
    """
    insert = _way(connection, _ASYNC, "add_event", _SYNC)
    await insert(connection, checked_table(table), checked_type(type), checked_json(data))


def _statement(table: str, dialect: str, type: str, data: str) -> str:
    return f"INSERT INTO {table} (type, data, ts) VALUES ({type}, {data}, {_NOW[dialect]})"  # noqa: S608 (checked)


def _sqlite3(connection: Any, table: str, type: str, data: str) -> None:
    connection.execute(_statement(table, "sqlite", "?", "?"), (type, data))


def _psycopg(connection: Any, table: str, type: str, data: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_statement(table, "postgresql", "%s", "%s"), (type, data))


def _mysql(connection: Any, table: str, type: str, data: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_statement(table, "mysql", "%s", "%s"), (type, data))


def _sqlalchemy_connection(connection: Any, table: str, type: str, data: str) -> None:
    from sqlalchemy import text  # noqa: PLC0415 (whoever has a connection has it)

    statement = _statement(table, connection.dialect.name, ":type", ":data")
    connection.execute(text(statement), {"type": type, "data": data})


def _sqlalchemy_session(session: Any, table: str, type: str, data: str) -> None:
    _sqlalchemy_connection(session.connection(), table, type, data)


async def _psycopg_async(connection: Any, table: str, type: str, data: str) -> None:
    async with connection.cursor() as cursor:
        await cursor.execute(_statement(table, "postgresql", "%s", "%s"), (type, data))


async def _asyncpg(connection: Any, table: str, type: str, data: str) -> None:
    await connection.execute(_statement(table, "postgresql", "$1", "$2"), type, data)


async def _sqlalchemy_async(connection: Any, table: str, type: str, data: str) -> None:
    insert = _sqlalchemy_session if hasattr(connection, "sync_session") else _sqlalchemy_connection
    await connection.run_sync(insert, table, type, data)


# By where a class or a base of it is defined: no driver is imported for this.
_SYNC: dict[tuple[str, str], Callable[..., None]] = {
    ("sqlite3", "Connection"): _sqlite3,
    ("psycopg", "Connection"): _psycopg,
    ("pymysql", "Connection"): _mysql,
    ("MySQLdb", "Connection"): _mysql,
    ("sqlalchemy", "Connection"): _sqlalchemy_connection,
    ("sqlalchemy", "Session"): _sqlalchemy_session,
    ("sqlalchemy", "scoped_session"): _sqlalchemy_session,
}
_ASYNC: dict[tuple[str, str], Callable[..., Awaitable[None]]] = {
    ("asyncpg", "Connection"): _asyncpg,
    ("asyncpg", "PoolConnectionProxy"): _asyncpg,
    ("psycopg", "AsyncConnection"): _psycopg_async,
    ("sqlalchemy", "AsyncConnection"): _sqlalchemy_async,
    ("sqlalchemy", "AsyncSession"): _sqlalchemy_async,
}


def _way(connection: Any, ways: dict[tuple[str, str], Any], other: str, others: dict[tuple[str, str], Any]) -> Any:
    names = [(base.__module__.partition(".")[0], base.__name__) for base in type(connection).__mro__]
    for name in names:
        if name in ways:
            return ways[name]
    hint = f"; {other} takes it" if any(name in others for name in names) else ""
    raise TypeError(f"no known database connection: {'.'.join(names[0])}{hint}")
