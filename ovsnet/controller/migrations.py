"""From each version of the tables to the next, in one transaction for all of them.

A new store gets the tables as schema.py has them. A version that was once released is never edited: to change tables,
change schema.py, raise ``schema.VERSION`` and add a function at the end of STEPS. What a step needs of the tables it
writes out, since schema.py moves on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
from sqlalchemy import Connection, inspect, select, text

from ovsnet.controller import schema
from ovsnet.controller.errors import StoreError
from ovsnet.log import about

log = logging.getLogger(__name__)
Step = Callable[[Connection], None]


class _Claims(msgspec.Struct):
    """What of an object of version one is its alone."""

    vni: int | None = None
    id: str = ""


def _claim(connection: Connection) -> None:
    """Version two: VNIs and ports' ids are claimed in the database, and not only in each controller's memory."""
    connection.execute(text("ALTER TABLE objects ADD COLUMN claim VARCHAR(48)"))
    asked = text(
        "SELECT vpc, kind, name, body FROM objects WHERE kind IN ('networks', 'ports') ORDER BY vpc, kind, name"
    )
    holders: dict[str, tuple[str, str, str]] = {}
    for vpc, kind, name, body in connection.execute(asked).all():
        one = msgspec.json.decode(bytes(body), type=_Claims)
        claim = f"vni:{one.vni}" if kind == "networks" else f"port:{one.id}"
        if claim in holders:
            first = "vpcs.{}.{}.{}".format(*holders[claim])
            warning = "vpcs.%s.%s.%s and %s have the same %s. Change one of them"
            log.warning(warning, vpc, kind, name, first, claim, extra=about(vpc, f"vpcs.{vpc}.{kind}.{name}"))
            continue
        holders[claim] = (vpc, kind, name)
    rows = [{"c": claim, "v": vpc, "k": kind, "n": name} for claim, (vpc, kind, name) in holders.items()]
    if rows:
        connection.execute(text("UPDATE objects SET claim = :c WHERE vpc = :v AND kind = :k AND name = :n"), rows)
    connection.execute(text("CREATE UNIQUE INDEX objects_claim ON objects (claim)"))


STEPS: tuple[Step, ...] = (_claim,)
"""``STEPS[n]`` leads from version n + 1 to version n + 2."""


def stored_version(connection: Connection) -> int:
    """The version of the tables in a store; 0 if there are none. Raises StoreError for one that is no store."""
    names = set(inspect(connection).get_table_names())
    if not names:
        return 0
    if schema.settings.name not in names:
        message = "the database has tables of something else. Give one that is empty, or an ovsnet controller's"
        raise StoreError("store-foreign", message)
    row = connection.execute(select(schema.settings.c.value).where(schema.settings.c.key == "schema")).first()
    if row is None or not str(row[0]).isdigit():
        raise StoreError("store-foreign", "the store does not say which version its tables have. Restore a backup")
    return int(row[0])


def last_version(steps: tuple[Step, ...]) -> int:
    """The version to which steps lead."""
    return len(steps) + 1


def upgrade(connection: Connection, version: int, steps: tuple[Step, ...] = STEPS) -> None:
    """Lead a store of ``version`` to the last one, within the caller's transaction. Raises StoreError."""
    last = last_version(steps)
    if version > last:
        message = (
            f"the store is of version {version}, and this program knows versions up to {last}. "
            f"Use the ovsnet that wrote it, or a later one"
        )
        raise StoreError("store-newer", message)
    if version == last:
        return
    if not version:
        schema.metadata.create_all(connection)
    for step in steps[(version or schema.VERSION) - 1 :]:
        step(connection)
    connection.execute(schema.settings.delete().where(schema.settings.c.key == "schema"))
    connection.execute(schema.settings.insert().values(key="schema", value=str(last)))
