"""Between the truth and the tables: what a plan writes, and how the truth is read back."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from ovsnet.controller import schema
from ovsnet.controller.history import AuditEntry, Backward, Revision, backward_of
from ovsnet.controller.requests import KINDS, OBJECT_TYPES, Kind, Object, Request
from ovsnet.controller.store import Stale, Taken, encode
from ovsnet.controller.truth import OwnedHost, Plan, Truth, VpcMeta, VpcPlan, VpcTruth, compact
from ovsnet.model.types import Host, Network, Port, Router, Underlay, VpcState
from ovsnet.transport.changes import PatchBody
from ovsnet.transport.digest import digest_text

_DECODERS: dict[Kind, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(OBJECT_TYPES[kind]) for kind in KINDS}
_BATCH = 2000


def write_plan(connection: Connection, plan: Plan, request: Request, now: float, until: float) -> None:
    """Everything that a plan changes.

    Raises Stale if a VPC has another revision by now, Taken if others have what an object claims for itself.
    """
    _raise_revisions(connection, plan)
    for name, host in plan.hosts.items():
        connection.execute(delete(schema.hosts).where(schema.hosts.c.name == name))
        if host is not None:
            row = {"name": name, "owner": host.owner, "body": encode(host.host)}
            connection.execute(schema.hosts.insert(), row)
    if plan.underlay is not None:
        body, owner = plan.underlay
        connection.execute(delete(schema.underlay))
        connection.execute(schema.underlay.insert(), {"id": 1, "owner": owner, "body": encode(body)})
    _write_objects(connection, plan.vpcs.values())
    for one in plan.vpcs.values():
        _write_history(connection, one, plan.tx, request.who, now)
        _write_resting(connection, one, until)
    write_audit(connection, AuditEntry(id=0, at=now, who=request.who, what=request.what, tx=plan.tx, **_DONE))


_DONE = {"outcome": "done", "detail": ""}
# What every change executes is made once: SQLAlchemy then knows the statements again by identity.
_OBJECTS, _VPCS = schema.objects, schema.vpcs
_OBJECT = (_OBJECTS.c.vpc == bindparam("v")) & (_OBJECTS.c.kind == bindparam("k")) & (_OBJECTS.c.name == bindparam("n"))
_DROP_OBJECT = delete(_OBJECTS).where(_OBJECT)
_ADD_OBJECT = _OBJECTS.insert()
_RENAME_OBJECT = update(_OBJECTS).where(_OBJECT).values(owner=bindparam("o"))
_RAISE = (
    update(_VPCS)
    .where((_VPCS.c.name == bindparam("n")) & (_VPCS.c.rev == bindparam("p")))
    .values({column: bindparam(f"new_{column}") for column in ("rev", "gone", "digest", "meta")})
)
_ADD_HISTORY, _ADD_OUTBOX, _ADD_AUDIT = schema.history.insert(), schema.outbox.insert(), schema.audit.insert()


def write_audit(connection: Connection, entry: AuditEntry) -> None:
    """One entry, whose id the store gives."""
    row = msgspec.structs.asdict(entry)
    del row["id"]
    connection.execute(_ADD_AUDIT, row)


def _raise_revisions(connection: Connection, plan: Plan) -> None:
    """First of all, and in the order of names, so that two controllers wait for each other and never deadlock."""
    table = schema.vpcs
    for name in sorted(plan.vpcs):
        one = plan.vpcs[name]
        values = {
            "rev": one.revision,
            "gone": int(one.deleted),
            "digest": digest_text(one.total),
            "meta": encode(one.meta),
        }
        if one.before is None and not one.previous:
            known = connection.execute(select(table.c.rev).where(table.c.name == name)).first()
            if known is not None:
                raise Stale([name])
            try:
                connection.execute(table.insert(), values | {"name": name})
            except IntegrityError:
                raise Stale([name]) from None
        else:
            given = {f"new_{column}": value for column, value in values.items()} | {"n": name, "p": one.previous}
            if connection.execute(_RAISE, given).rowcount != 1:
                raise Stale([name])


def _write_objects(connection: Connection, plans: Iterable[VpcPlan]) -> None:
    """First what goes, so that what it claimed may be claimed anew in the same transaction."""
    coming: list[dict[str, Any]] = []
    renamed: list[dict[str, Any]] = []
    for plan in plans:
        if plan.deleted:
            for gone in (schema.objects, schema.history, schema.outbox):
                connection.execute(delete(gone).where(gone.c.vpc == plan.name))
            continue
        going = []
        for kind in KINDS:
            for name, body in getattr(plan.patch, kind).items():
                if plan.old(kind, name) is not None:
                    going.append({"v": plan.name, "k": kind, "n": name})
                if body is not None:
                    coming.append(_row(plan, kind, name, body))
        if going:
            connection.execute(_DROP_OBJECT, going)
        renamed += [
            {"v": plan.name, "k": kind, "n": name, "o": _owner(plan, kind, name)}
            for kind, name in plan.owners
            if name not in getattr(plan.patch, kind)
        ]
    if coming:
        _add_objects(connection, sorted(coming, key=lambda row: row["claim"] or ""))
    if renamed:
        connection.execute(_RENAME_OBJECT, renamed)


def _row(plan: VpcPlan, kind: Kind, name: str, body: Object) -> dict[str, Any]:
    claim = None
    if isinstance(body, Network | Router):
        claim = f"vni:{body.vni}"
    elif isinstance(body, Port):
        claim = f"port:{body.id}"
    owner = _owner(plan, kind, name)
    return {"vpc": plan.name, "kind": kind, "name": name, "owner": owner, "body": encode(body), "claim": claim}


def _add_objects(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """The rows, in the order of claims, so that two controllers wait for each other and do not deadlock.

    Raises Taken, also when they do all the same, since one gives away what the other takes.
    """
    try:
        connection.execute(_ADD_OBJECT, rows)
    except IntegrityError:
        raise Taken from None
    except DBAPIError as exc:
        if getattr(exc.orig, "sqlstate", "") == _DEADLOCK:
            raise Taken from None
        raise


_DEADLOCK = "40P01"  # PostgreSQL's deadlock_detected


def _owner(plan: VpcPlan, kind: Kind, name: str) -> str | None:
    """The owner as it is stored: ``None`` where it is the VPC's."""
    if (kind, name) not in plan.owners:
        return None if plan.before is None else plan.before.owners.get((kind, name))
    owner = plan.owners[kind, name]
    return None if owner == plan.meta.owner else owner


def _write_history(connection: Connection, plan: VpcPlan, tx: str, who: str, now: float) -> None:
    if plan.deleted:
        return
    row = {
        "vpc": plan.name,
        "rev": plan.revision,
        "tx": tx,
        "at": now,
        "who": who,
        "forward": encode(plan.patch),
        "backward": encode(backward_of(plan)),
    }
    connection.execute(_ADD_HISTORY, row)
    connection.execute(_ADD_OUTBOX, {"vpc": plan.name, "rev": plan.revision, "tx": tx})


def _write_resting(connection: Connection, plan: VpcPlan, until: float) -> None:
    rows = [
        {"key": encode(key).decode(), "vpc": plan.name, "rev": plan.revision, "until": until} for key in plan.released
    ]
    if rows:
        table = schema.resting
        connection.execute(delete(table).where(table.c.key == bindparam("k")), [{"k": row["key"]} for row in rows])
        connection.execute(table.insert(), rows)


def load_truth(connection: Connection, name: str) -> Truth:
    """All that a store holds; ``name`` is the controller's, the owner of the states on the wire."""
    truth = Truth(name)
    load_hosts(connection, truth)
    for row in connection.execute(select(schema.underlay)):
        truth.underlay, truth.underlay_owner = msgspec.json.decode(row.body, type=Underlay), row.owner
    for row in connection.execute(select(schema.vpcs).where(schema.vpcs.c.gone == 1)):
        truth.retired[row.name] = row.rev
    for vpc in connection.execute(select(schema.vpcs.c.name).where(schema.vpcs.c.gone == 0)).scalars().all():
        load_vpc(connection, truth, vpc)
    for row in connection.execute(select(schema.resting).order_by(schema.resting.c.until)):
        key: Hashable = tuple(msgspec.json.decode(row.key))
        truth.quarantine.add(key, row.vpc, row.rev, ["?"], row.until)  # who confirmed it already is not known any more
    return truth


def load_hosts(connection: Connection, truth: Truth) -> None:
    """Load the hosts of the site, anew if the truth has some."""
    truth.hosts = {
        row.name: OwnedHost(msgspec.json.decode(row.body, type=Host), sys.intern(row.owner))
        for row in connection.execute(select(schema.hosts))
    }


def load_vpc(connection: Connection, truth: Truth, name: str) -> None:
    """Load one VPC, anew if the truth has it; forget it if the store has it no more."""
    truth.remove(name)
    truth.retired.pop(name, None)
    row = connection.execute(select(schema.vpcs).where(schema.vpcs.c.name == name)).first()
    if row is None:
        return
    if row.gone:
        truth.retired[name] = row.rev
        return
    parts: dict[Kind, dict[str, Any]] = {kind: {} for kind in KINDS}
    owners: dict[tuple[Kind, str], str] = {}
    table = schema.objects
    found = connection.execute(
        select(table.c.kind, table.c.name, table.c.owner, table.c.body).where(table.c.vpc == name)
    )
    while rows := found.fetchmany(_BATCH):
        for kind, key, owner, body in rows:
            parts[kind][key] = compact(_DECODERS[kind].decode(body))
            if owner is not None:
                owners[kind, key] = sys.intern(owner)
    hosts = {host: "" for port in parts["ports"].values() for host in (port.host, port.moving_to) if host is not None}
    state = VpcState(
        name=name,
        revision=row.rev,
        owner=truth.name,
        hosts={host: truth.hosts[host].host.vtep for host in hosts},
        **parts,
    )
    truth.add(VpcTruth(state, msgspec.json.decode(row.meta, type=VpcMeta), owners, int(row.digest, 16)))


def read_revisions(connection: Connection) -> dict[str, int]:
    """The revisions of all VPCs."""
    table = schema.vpcs
    return {row.name: row.rev for row in connection.execute(select(table.c.name, table.c.rev).where(table.c.gone == 0))}


def read_history(connection: Connection, vpc: str, limit: int) -> list[Revision]:
    """The latest revisions of a VPC, the last one first."""
    table = schema.history
    asked = select(table).where(table.c.vpc == vpc).order_by(table.c.rev.desc()).limit(limit)
    result = []
    for row in connection.execute(asked):
        patch = msgspec.json.decode(row.forward, type=PatchBody)
        changes = {kind: len(getattr(patch, kind)) for kind in (*KINDS, "hosts") if getattr(patch, kind)}
        result.append(Revision(revision=row.rev, at=row.at, who=row.who, tx=row.tx, changes=changes))
    return result


def read_back(connection: Connection, vpc: str, revision: int) -> list[Backward] | None:
    """What leads a VPC back to a revision, the latest first; ``None`` if that is not known any more."""
    table = schema.history
    asked = select(table.c.rev, table.c.forward, table.c.backward)
    rows = connection.execute(
        asked.where(table.c.vpc == vpc, table.c.rev > revision).order_by(table.c.rev.desc())
    ).all()
    if not rows:
        return []
    if msgspec.json.decode(rows[-1].forward, type=PatchBody).previous != revision:
        return None
    return [msgspec.json.decode(row.backward, type=Backward) for row in rows]


def read_outbox(connection: Connection) -> list[tuple[str, str, PatchBody]]:
    """Transaction, VPC and change of each revision that may not have been published, in the order of revisions."""
    table, past = schema.outbox, schema.history
    joined = table.join(past, (past.c.vpc == table.c.vpc) & (past.c.rev == table.c.rev))
    asked = select(table.c.tx, table.c.vpc, past.c.forward).select_from(joined).order_by(table.c.rev)
    return [(tx, vpc, msgspec.json.decode(body, type=PatchBody)) for tx, vpc, body in connection.execute(asked)]


def clear_outbox(connection: Connection, published: Iterable[tuple[str, int]]) -> None:
    """Forget revisions that have been published."""
    table = schema.outbox
    mine = (table.c.vpc == bindparam("v")) & (table.c.rev == bindparam("r"))
    rows = [{"v": vpc, "r": revision} for vpc, revision in published]
    if rows:
        connection.execute(delete(table).where(mine), rows)
