"""The truth on disk: SQLite in a file, or PostgreSQL by its URL; the same tables and the same code."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from ovsnet.controller import migrations, schema
from ovsnet.controller.errors import StoreError
from ovsnet.controller.history import AuditEntry
from ovsnet.errors import needing

BUSY_MS = 5000
"""Milliseconds that a statement waits for SQLite's lock."""

_UNAVAILABLE = "the store does not answer. Nothing was changed; try again once it does"


class Stale(Exception):
    """VPCs have other revisions in the store than the caller took them to have: another controller was there."""

    def __init__(self, vpcs: Iterable[str]) -> None:
        super().__init__(", ".join(vpcs))
        self.vpcs = tuple(vpcs)


class Taken(Exception):
    """Others have what an object claims for itself (``schema.objects.c.claim``), or had it a moment ago."""


class InDoubtError(StoreError):
    """The connection broke during the commit: the change may be in the store or not, until it can be asked."""

    def __init__(self) -> None:
        super().__init__("store-unavailable", "the store was lost during the commit, which may have been done or not")


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


class Store:
    """A database with the controller's tables. ``write`` is for one thread at a time, reading for any."""

    def __init__(self, url: str, steps: Sequence[migrations.Step] = migrations.STEPS) -> None:
        """Open the store at ``url`` and lead it to this program's version. Raises StoreError."""
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        with translated():
            self._upgrade(tuple(steps))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end of the block.

        Raises StoreError if the database refuses (nothing is changed then), InDoubtError if it is lost in the commit.
        """
        with translated(), self.engine.connect().execution_options(writes=True) as connection:
            transaction = connection.begin()
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(DBAPIError):
                    transaction.rollback()
                raise
            try:
                transaction.commit()
            except DBAPIError as exc:
                if exc.connection_invalidated or not self.is_sqlite:
                    raise InDoubtError from exc
                with contextlib.suppress(DBAPIError):
                    transaction.rollback()
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent look at the store. Raises StoreError."""
        with translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    def has_transaction(self, tx: str) -> bool:
        """Whether a transaction was committed. Raises StoreError."""
        with self.read() as connection:
            asked = select(schema.audit.c.id).where(schema.audit.c.tx == tx, schema.audit.c.outcome == "done")
            return connection.execute(asked).first() is not None

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """The latest entries of the audit log, the last one first; ``before``: only those with a lower id."""
        table = schema.audit
        asked = select(table).order_by(table.c.id.desc()).limit(limit)
        if before is not None:
            asked = asked.where(table.c.id < before)
        with self.read() as connection:
            return [AuditEntry(**row._mapping) for row in connection.execute(asked)]

    def prune(self, *, revisions: int, audit: int, now: float) -> None:
        """Forget what is older than the last ``revisions`` of each VPC and ``audit`` entries, and rests that ended."""
        with self.write() as connection:
            last = select(schema.vpcs.c.rev).where(schema.vpcs.c.name == schema.history.c.vpc).scalar_subquery()
            connection.execute(schema.history.delete().where(schema.history.c.rev <= last - revisions))
            cut = select(schema.audit.c.id).order_by(schema.audit.c.id.desc()).offset(audit).limit(1)
            first = connection.execute(cut).scalar()
            if first is not None:
                connection.execute(schema.audit.delete().where(schema.audit.c.id <= first))
            connection.execute(schema.resting.delete().where(schema.resting.c.until <= now))

    def _upgrade(self, steps: tuple[migrations.Step, ...]) -> None:
        with self.read() as connection:
            version = migrations.stored_version(connection)
        last = migrations.last_version(steps)
        if version == last:
            return
        if self.is_sqlite and 0 < version < last:
            self._backup(version)
        with self.write() as connection:
            migrations.upgrade(connection, version, steps)

    def _backup(self, version: int) -> None:
        """A copy of a SQLite file beside it, as ``FILE.v1``, before its tables change."""
        source = self.engine.url.database
        assert source is not None
        with contextlib.closing(sqlite3.connect(source)) as old:
            copy = contextlib.closing(sqlite3.connect(f"{source}.v{version}"))
            with copy as new:
                old.backup(new)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            return _sqlite_engine(url, parsed.database)
        if parsed.get_backend_name() == "postgresql":
            with needing("postgres") if parsed.get_driver_name() == "psycopg" else contextlib.nullcontext():
                return create_engine(url, pool_pre_ping=True, pool_size=4, connect_args={"connect_timeout": 5})
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as exc:
        raise StoreError("store-unavailable", f"--store {url}: {exc}") from None
    raise StoreError("store-unavailable", f"--store {url}: give a sqlite:/// or a postgresql+psycopg:// URL")


def _sqlite_engine(url: str, database: str | None) -> Engine:
    if not database or database == ":memory:":
        raise StoreError("store-unavailable", f"--store {url}: a file is needed, as in sqlite:////var/lib/ovsnet/c.db")
    engine = create_engine(url, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, so that a writer takes the lock at once
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The database's errors as StoreError."""
    try:
        yield
    except DBAPIError as exc:
        raise _store_error(exc) from exc


def _store_error(exc: DBAPIError) -> StoreError:
    text = str(exc.orig).strip().splitlines()[0] if str(exc.orig).strip() else type(exc.orig).__name__
    known = (
        (("is full", "No space left", "disk I/O error", "DiskFull"), "store-full", "Make room on its disk"),
        (("readonly", "read-only"), "store-read-only", "Make it writable"),
        (("not a database", "malformed"), "store-unavailable", "Restore it from a backup"),
    )
    for words, code, remedy in known:
        if any(word in text or word in type(exc.orig).__name__ for word in words):
            return StoreError(code, f"the store refused: {text}. Nothing was changed. {remedy}")
    return StoreError("store-unavailable", f"{_UNAVAILABLE} ({text})")


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
