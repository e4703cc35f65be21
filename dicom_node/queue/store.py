"""Opens the queue's database: SQLite in WAL mode, every commit on the disk before it returns.

Everything above uses SQLAlchemy's portable expressions, so that another database can take SQLite's place.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DatabaseError, OperationalError

from dicom_node.errors import QueueError, QueueVersion, SpoolFull
from dicom_node.queue.tables import SCHEMA_VERSION, metadata, schema

_BUSY_TIMEOUT_S = 30


def open_engine(file: Path) -> Engine:
    """Opens the database, and makes its tables when it is new.

    Raises
    ------
    QueueVersion
        The database was made by another version of the program.
    QueueError
        The file is not a database.
    """
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    try:
        with writing(engine) as connection:
            metadata.create_all(connection)
            version = connection.scalar(select(schema.c.version))
            if version is None:
                connection.execute(insert(schema).values(version=SCHEMA_VERSION))
    except (DatabaseError, sqlite3.DatabaseError) as error:
        engine.dispose()
        got = getattr(error, "orig", error)
        raise QueueError("queue's database", expected="an SQLite file that can be written", got=got) from None
    if version not in (None, SCHEMA_VERSION):
        engine.dispose()
        raise QueueVersion("version of the queue's database", expected=SCHEMA_VERSION, got=version)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that takes the write lock at its beginning and is on the disk at its end.

    Raises
    ------
    SpoolFull
        The disk has no room for it; nothing of it happened.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except OperationalError as error:
        # The primary result code is the low byte of the extended one.
        code = _sqlite_code(error)
        if code is not None and code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise SpoolFull("queue's database", expected="room on the disk", got=error.orig) from None
        raise


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees one state of the database and waits for nobody."""
    with engine.execution_options(read_only=True).begin() as connection:
        yield connection


def _sqlite_code(error: Exception) -> int | None:
    return getattr(getattr(error, "orig", None), "sqlite_errorcode", None)


def _on_connect(connection: Any, _record: Any) -> None:
    # The driver's own transaction control is off: `_on_begin` decides which lock a transaction takes.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails at once when another writer came in between.
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
