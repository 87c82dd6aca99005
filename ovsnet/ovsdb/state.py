"""What is known of a switch from its database: immutable values, and the view that keeps them current."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ovsnet.ovsdb.zones import ZoneRecord, read

MARK = "ovsnet"
"""The key in ``external_ids`` by which our rows are known."""

INTEGRATION = "integration"
TUNNEL = "tunnel"
PATCH = "patch"
PEER = "ovsnet-bridge"
"""The key in a patch port's ``external_ids`` that names the bridge that it leads to."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of the integration bridge.

    ``ofport`` is its OpenFlow port number, ``None`` while ovs-vswitchd has not given it one (or could not: ``error``).
    ``up`` is the state of the link. ``iface_id`` is empty for an interface that no port claims. ``peer`` is the bridge
    that our patch port leads to.
    """

    name: str
    bridge: str
    iface_id: str = ""
    mark: str = ""
    ofport: int | None = None
    up: bool = False
    error: str = ""
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two or more interfaces claim one ``iface_id``; ``chosen`` is bound, ``others`` are not."""

    iface_id: str
    chosen: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SwitchState:
    """The facts of one switch, as its database tells them.

    ``interfaces`` are those of the integration bridge that carry ``external_ids:iface-id``, by that id. ``tunnel`` is
    our tunnel port, ``patches`` are our patch ports by the bridge that they lead to, ``bridges`` the names of all
    bridges, ``foreign_bridges`` those that are not ours. ``cur_cfg`` is the last configuration that
    ovs-vswitchd has applied, ``next_cfg`` the last one that somebody asked for. ``nd_responder`` says whether flows may
    rewrite the ND option types (the kernel datapath refuses it). ``zones`` is what it says of conntrack zones.
    """

    bridge: str
    exists: bool = False
    datapath_type: str = ""
    datapath_id: str = ""
    ovs_version: str = ""
    cur_cfg: int = 0
    next_cfg: int = 0
    nd_responder: bool = False
    tunnel: Interface | None = None
    interfaces: Mapping[str, Interface] = field(default_factory=lambda: MappingProxyType({}))
    conflicts: tuple[Conflict, ...] = ()
    patches: Mapping[str, Interface] = field(default_factory=lambda: MappingProxyType({}))
    bridges: frozenset[str] = frozenset()
    foreign_bridges: tuple[str, ...] = ()
    zones: ZoneRecord = field(default_factory=ZoneRecord)


class StateView:
    """Turns a replica's rows into :class:`SwitchState`, parsing again only the interfaces and maps that changed.

    The library converts a map or a set as a whole whenever it is looked at: milliseconds for some hundred entries.
    """

    def __init__(self, bridge: str) -> None:
        self.bridge = bridge
        self._parsed: dict[uuid.UUID, Interface] = {}
        self._members: list[uuid.UUID] = []
        self._stale_members = True
        self._ids: dict[uuid.UUID, Mapping[str, str]] = {}  # of bridges
        self._zones: ZoneRecord | None = None

    def note(self, table: str, row: uuid.UUID, columns: frozenset[str] | None = None) -> None:
        """A row was created, changed or deleted; ``columns`` are those that changed, if it was there and still is."""
        if table == "Interface":
            self._parsed.pop(row, None)
        elif table == "Port":
            self._stale_members = True
        elif table == "Bridge":
            self._stale_members |= columns is None or "ports" in columns
            if columns is None or "external_ids" in columns:
                self._ids.pop(row, None)
                self._zones = None

    def build(self, tables: Mapping[str, Any]) -> SwitchState:
        """The state now; ``tables`` are the replica's tables by name."""
        root = next(iter(tables["Open_vSwitch"].rows.values()), None)
        if root is None:
            return SwitchState(self.bridge)
        bridges = list(root.bridges)
        names = {row.uuid: row.name for row in bridges}
        ours = next((row for row in bridges if names[row.uuid] == self.bridge), None)
        self._ids = {row.uuid: self._ids.get(row.uuid) or row.external_ids for row in bridges}
        if self._zones is None:
            self._zones = read(self.bridge, {names[key]: ids for key, ids in self._ids.items()})
        if self._stale_members:
            rows = [] if ours is None else [interface for port in ours.ports for interface in port.interfaces]
            self._members = [row.uuid for row in rows]
            self._parsed = {key: self._parsed[key] for key in self._members if key in self._parsed}
            self._stale_members = False
        interfaces = self._interfaces(tables["Interface"].rows)
        bound, conflicts = bind(interface for interface in interfaces if interface.iface_id)
        datapath_type = "" if ours is None else ours.datapath_type or "system"
        return SwitchState(
            bridge=self.bridge,
            exists=ours is not None,
            datapath_type=datapath_type,
            datapath_id="" if ours is None else first(ours.datapath_id) or "",
            ovs_version=first(root.ovs_version) or "",
            cur_cfg=root.cur_cfg,
            next_cfg=root.next_cfg,
            nd_responder=_nd_responder(root.datapaths, datapath_type),
            tunnel=next((interface for interface in interfaces if interface.mark == TUNNEL), None),
            interfaces=MappingProxyType(bound),
            conflicts=conflicts,
            patches=MappingProxyType({one.peer: one for one in interfaces if one.mark == PATCH and one.peer}),
            bridges=frozenset(names.values()),
            foreign_bridges=tuple(sorted(names[key] for key, ids in self._ids.items() if MARK not in ids)),
            zones=self._zones,
        )

    def _interfaces(self, rows: Any) -> list[Interface]:
        found = []
        for key in self._members:
            interface = self._parsed.get(key)
            if interface is None:
                row = rows.get(key)
                if row is None:
                    continue
                interface = self._parsed[key] = _parse(row, self.bridge)
            found.append(interface)
        return found


def first(values: list[Any]) -> Any:
    """The value of an optional column, which the library gives as a list of none or one."""
    return values[0] if values else None


def bind(interfaces: Iterable[Interface]) -> tuple[dict[str, Interface], tuple[Conflict, ...]]:
    """One interface for each iface-id, and the conflicts.

    Of several with one id the winner is one without error, with an OpenFlow port, then the lowest port number and name:
    a choice that does not depend on the order in which rows arrive.
    """
    claims: dict[str, list[Interface]] = {}
    for interface in interfaces:
        claims.setdefault(interface.iface_id, []).append(interface)
    bound: dict[str, Interface] = {}
    conflicts = []
    for iface_id, claimants in sorted(claims.items()):
        if len(claimants) > 1:
            claimants.sort(key=lambda i: (bool(i.error), i.ofport is None, i.ofport or 0, i.name))
            conflicts.append(Conflict(iface_id, claimants[0].name, tuple(i.name for i in claimants[1:])))
        bound[iface_id] = claimants[0]
    return bound, tuple(conflicts)


def _parse(row: Any, bridge: str) -> Interface:
    external_ids = row.external_ids
    ofport = first(row.ofport)
    return Interface(
        name=row.name,
        bridge=bridge,
        iface_id=external_ids.get("iface-id", ""),
        mark=external_ids.get(MARK, ""),
        ofport=ofport if ofport is not None and ofport > 0 else None,
        up=first(row.link_state) == "up",
        error=first(row.error) or "",
        peer=external_ids.get(PEER, ""),
    )


def _nd_responder(datapaths: Mapping[str, Any], datapath_type: str) -> bool:
    """``nd_ext`` of the datapath's record where one exists (nothing creates it by default), else by its type."""
    record = datapaths.get(datapath_type)
    if record is not None and "nd_ext" in record.capabilities:
        return bool(record.capabilities["nd_ext"] == "true")
    return datapath_type == "netdev"
