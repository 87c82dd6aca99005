"""From each version of the tables to the next, in one transaction for all of them.

A version that was once released is never edited: a change of the tables is one more function at the end of STEPS and a
higher ``schema.VERSION``. What a step needs of the tables it writes out, since schema.py moves on.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, inspect, select

from ovsnet.controller import schema
from ovsnet.controller.errors import StoreError

Step = Callable[[Connection], None]


def _first(connection: Connection) -> None:
    """The tables of version one."""
    schema.metadata.create_all(connection)


STEPS: tuple[Step, ...] = (_first,)
"""``STEPS[n]`` leads from version n to version n + 1; 0 is a store without tables."""


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


def upgrade(connection: Connection, version: int, steps: tuple[Step, ...] = STEPS) -> None:
    """Lead a store of ``version`` to the last one, within the caller's transaction. Raises StoreError."""
    if version > len(steps):
        message = (
            f"the store is of version {version}, and this program knows versions up to {len(steps)}. "
            f"Use the ovsnet that wrote it, or a later one"
        )
        raise StoreError("store-newer", message)
    for step in steps[version:]:
        step(connection)
    if version < len(steps):
        connection.execute(schema.settings.delete().where(schema.settings.c.key == "schema"))
        connection.execute(schema.settings.insert().values(key="schema", value=str(len(steps))))
