"""Interfaces that we put on the integration bridge, or bind there, for a port: marked, so that we undo only our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ovsnet.errors import UserError
from ovsnet.ovsdb.state import MARK

PORT = "ovsnet-port"
"""The key in an interface's ``external_ids`` that names the port that it was plugged for."""
PLUG = "plug-"
"""Marks of interfaces that we plugged begin so: ``plug-veth``, ``plug-tap``, ``plug-existing``; or ``plug-bound`` for
one that was on the bridge before, and got only its iface-id from us."""
BOUND = f"{PLUG}bound"

Tables = Mapping[str, Any]


class Plugged(NamedTuple):
    """An interface that is plugged for a port; ``kind`` is that of its mark, empty if somebody else plugged it."""

    interface: str
    kind: str
    changed: bool = False


def plugged(bridge_name: str, iface_id: str) -> Callable[[Tables, Any], Plugged | None]:
    """What claims an iface-id on the bridge."""

    def look(tables: Tables, _txn: Any) -> Plugged | None:
        for _port, interface in _interfaces(tables, bridge_name):
            if interface.external_ids.get("iface-id") == iface_id:
                return Plugged(interface.name, _kind(interface))
        return None

    return look


def plug(
    bridge_name: str, name: str, iface_id: str, port: str, mac: str, kind: str
) -> Callable[[Tables, Any], Plugged]:
    """Put interface ``name`` on the bridge for a port (``VPC/NAME``), or bind it if it is there already.

    Raises UserError when it belongs to another port or bridge.
    """

    def change(tables: Tables, txn: Any) -> Plugged:
        bridge = _bridge(tables, bridge_name)
        if bridge is None:
            raise UserError(f"bridge {bridge_name} does not exist yet. Try again once the agent is ready")
        there = dict(_names(tables, bridge_name)).get(name)
        if there is None and any(row.name == name for row in tables["Port"].rows.values()):
            raise UserError(f"interface {name} is on another bridge. Take it off there, or name another one")
        if there is None:
            _insert(tables, txn, bridge, name, _ids(iface_id, port, mac, PLUG + kind))
            return Plugged(name, PLUG + kind, True)
        claimed = there.external_ids.get("iface-id", "")
        if claimed == iface_id:
            return Plugged(name, _kind(there))
        if claimed or MARK in there.external_ids:
            owner = there.external_ids.get(PORT) or f"iface-id {claimed}" if claimed else "ovsnet itself"
            raise UserError(f"interface {name} belongs to {owner}. Unplug it there, or name another one")
        for key, value in _ids(iface_id, port, mac, BOUND).items():
            there.setkey("external_ids", key, value)
        return Plugged(name, BOUND, True)

    return change


def unplug(bridge_name: str, port: str) -> Callable[[Tables, Any], list[Plugged]]:
    """Take what was plugged for a port (``VPC/NAME``) off the bridge; what was only bound stays, unbound."""

    def change(tables: Tables, _txn: Any) -> list[Plugged]:
        gone = []
        bridge: Any = _bridge(tables, bridge_name)
        for row, interface in _interfaces(tables, bridge_name):
            kind = _kind(interface)
            if not kind or interface.external_ids.get(PORT) != port:
                continue
            if kind == BOUND:
                for key in ("iface-id", MARK, PORT, "attached-mac"):
                    interface.delkey("external_ids", key)
            else:
                bridge.delvalue("ports", row)
            gone.append(Plugged(interface.name, kind, True))
        return gone

    return change


def _ids(iface_id: str, port: str, mac: str, mark: str) -> dict[str, str]:
    return {"iface-id": iface_id, "attached-mac": mac, PORT: port, MARK: mark}


def _kind(interface: Any) -> str:
    mark = str(interface.external_ids.get(MARK, ""))
    return mark if mark.startswith(PLUG) else ""


def _bridge(tables: Tables, name: str) -> Any:
    return next((row for row in tables["Bridge"].rows.values() if row.name == name), None)


def _interfaces(tables: Tables, bridge_name: str) -> list[tuple[Any, Any]]:
    """The ports of the bridge with their interfaces."""
    bridge = _bridge(tables, bridge_name)
    return [(port, interface) for port in bridge.ports for interface in port.interfaces] if bridge is not None else []


def _names(tables: Tables, bridge_name: str) -> list[tuple[str, Any]]:
    return [(interface.name, interface) for _, interface in _interfaces(tables, bridge_name)]


def _insert(tables: Tables, txn: Any, bridge: Any, name: str, ids: Mapping[str, str]) -> None:
    interface = txn.insert(tables["Interface"])
    interface.name = name
    interface.external_ids = dict(ids)
    port = txn.insert(tables["Port"])
    port.name = name
    port.interfaces = [interface]
    port.external_ids = {MARK: ids[MARK]}
    bridge.addvalue("ports", port)
