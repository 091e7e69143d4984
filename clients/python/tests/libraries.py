"""Every database library that `add_event` takes, as a shop that places orders with it.

A shop's `place` inserts an order and its event in one transaction; what is
raised after the event rolls both back. All are asynchronous to the tests.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import MySQLdb
import psycopg
import pymysql
import sqlalchemy
from databases import MYSQL, POSTGRES, SQLITE, Database
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from futoin_eventstream import add_event, add_event_async

Place = Callable[[str, str, Any], AbstractAsyncContextManager[None]]

_TABLE = "CREATE TABLE IF NOT EXISTS {table} (item VARCHAR(40))"
_INSERT = "INSERT INTO {table} (item) VALUES ('{item}')"


def _insert(table: str) -> str:
    return _INSERT.format(table=table, item="tea")


@asynccontextmanager
async def _dbapi(connection: Any, table: str, type: str, data: Any) -> AsyncIterator[None]:
    """Of DB-API: a connection is in a transaction until it is told otherwise."""
    try:
        cursor = connection.cursor()
        cursor.execute(_TABLE.format(table=table))
        connection.commit()
        cursor.execute(_insert(table))
        add_event(connection, type, data)
        cursor.close()
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.close()


def sqlite3_shop(table: str, type: str, data: Any) -> AbstractAsyncContextManager[None]:
    return _dbapi(sqlite3.connect(SQLITE.url, timeout=30), table, type, data)


def psycopg_shop(table: str, type: str, data: Any) -> AbstractAsyncContextManager[None]:
    return _dbapi(psycopg.connect(POSTGRES.url), table, type, data)


def pymysql_shop(table: str, type: str, data: Any) -> AbstractAsyncContextManager[None]:
    return _dbapi(pymysql.connect(**MYSQL.mysql), table, type, data)


def mysqlclient_shop(table: str, type: str, data: Any) -> AbstractAsyncContextManager[None]:
    return _dbapi(MySQLdb.connect(**MYSQL.mysql), table, type, data)


@asynccontextmanager
async def psycopg_async_shop(table: str, type: str, data: Any) -> AsyncIterator[None]:
    async with await psycopg.AsyncConnection.connect(POSTGRES.url) as connection:
        await connection.execute(_TABLE.format(table=table))
        await connection.commit()
        await connection.execute(_insert(table))
        await add_event_async(connection, type, data)
        yield


@asynccontextmanager
async def asyncpg_shop(table: str, type: str, data: Any) -> AsyncIterator[None]:
    connection = await asyncpg.connect(POSTGRES.url)
    try:
        await connection.execute(_TABLE.format(table=table))
        async with connection.transaction():
            await connection.execute(_insert(table))
            await add_event_async(connection, type, data)
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def asyncpg_pool_shop(table: str, type: str, data: Any) -> AsyncIterator[None]:
    async with asyncpg.create_pool(POSTGRES.url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        await connection.execute(_TABLE.format(table=table))
        async with connection.transaction():
            await connection.execute(_insert(table))
            await add_event_async(connection, type, data)
            yield


def _connection_shop(database: Database, driver: str) -> Place:
    @asynccontextmanager
    async def shop(table: str, type: str, data: Any) -> AsyncIterator[None]:
        engine = sqlalchemy.create_engine(database.sqlalchemy(driver))
        try:
            with engine.begin() as connection:
                connection.execute(sqlalchemy.text(_TABLE.format(table=table)))
            with engine.begin() as connection:
                connection.execute(sqlalchemy.text(_insert(table)))
                add_event(connection, type, data)
                yield
        finally:
            engine.dispose()

    return shop


def _session_shop(database: Database, driver: str) -> Place:
    @asynccontextmanager
    async def shop(table: str, type: str, data: Any) -> AsyncIterator[None]:
        engine = sqlalchemy.create_engine(database.sqlalchemy(driver))
        try:
            with Session(engine) as session, session.begin():
                session.execute(sqlalchemy.text(_TABLE.format(table=table)))
            with Session(engine) as session, session.begin():
                session.execute(sqlalchemy.text(_insert(table)))
                add_event(session, type, data)
                yield
        finally:
            engine.dispose()

    return shop


def _async_connection_shop(database: Database, driver: str) -> Place:
    @asynccontextmanager
    async def shop(table: str, type: str, data: Any) -> AsyncIterator[None]:
        engine = create_async_engine(database.sqlalchemy(driver))
        try:
            async with engine.begin() as connection:
                await connection.execute(sqlalchemy.text(_TABLE.format(table=table)))
            async with engine.begin() as connection:
                await connection.execute(sqlalchemy.text(_insert(table)))
                await add_event_async(connection, type, data)
                yield
        finally:
            await engine.dispose()

    return shop


def _async_session_shop(database: Database, driver: str) -> Place:
    @asynccontextmanager
    async def shop(table: str, type: str, data: Any) -> AsyncIterator[None]:
        engine = create_async_engine(database.sqlalchemy(driver))
        try:
            async with AsyncSession(engine) as session, session.begin():
                await session.execute(sqlalchemy.text(_TABLE.format(table=table)))
            async with AsyncSession(engine) as session, session.begin():
                await session.execute(sqlalchemy.text(_insert(table)))
                await add_event_async(session, type, data)
                yield
        finally:
            await engine.dispose()

    return shop


SHOPS: dict[str, tuple[Database, Place]] = {
    "sqlite3": (SQLITE, sqlite3_shop),
    "psycopg": (POSTGRES, psycopg_shop),
    "psycopg_async": (POSTGRES, psycopg_async_shop),
    "asyncpg": (POSTGRES, asyncpg_shop),
    "asyncpg_pool": (POSTGRES, asyncpg_pool_shop),
    "pymysql": (MYSQL, pymysql_shop),
    "mysqlclient": (MYSQL, mysqlclient_shop),
    "sqlalchemy_sqlite": (SQLITE, _connection_shop(SQLITE, "sqlite")),
    "sqlalchemy_postgres": (POSTGRES, _connection_shop(POSTGRES, "postgresql+psycopg")),
    "sqlalchemy_mysql": (MYSQL, _connection_shop(MYSQL, "mysql+pymysql")),
    "sqlalchemy_session_sqlite": (SQLITE, _session_shop(SQLITE, "sqlite")),
    "sqlalchemy_session_postgres": (POSTGRES, _session_shop(POSTGRES, "postgresql+psycopg")),
    "sqlalchemy_session_mysql": (MYSQL, _session_shop(MYSQL, "mariadb+mysqldb")),
    "sqlalchemy_async_sqlite": (SQLITE, _async_connection_shop(SQLITE, "sqlite+aiosqlite")),
    "sqlalchemy_async_postgres": (POSTGRES, _async_connection_shop(POSTGRES, "postgresql+asyncpg")),
    "sqlalchemy_async_session_sqlite": (SQLITE, _async_session_shop(SQLITE, "sqlite+aiosqlite")),
    "sqlalchemy_async_session_postgres": (POSTGRES, _async_session_shop(POSTGRES, "postgresql+psycopg")),
}
