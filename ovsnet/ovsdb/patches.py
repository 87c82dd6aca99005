"""The patch ports between the integration bridge and the bridges that lead to provider networks.

Those bridges are the site's: nothing of them is touched but our own end of the pair.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ovsnet.errors import UserError
from ovsnet.ovsdb.state import MARK, PATCH, PEER

Tables = Mapping[str, Any]


def names(integration: str, bridge: str) -> tuple[str, str]:
    """The names of a pair: its end on the integration bridge, and that on the other one."""
    return f"{integration}-to-{bridge}", f"{bridge}-to-{integration}"


def pairs(integration: str, wanted: Collection[str]) -> Callable[[Tables, Any], list[str]]:
    """Make what is there the pairs to ``wanted``; a bridge that does not exist is left for later.

    Raises UserError when the integration bridge does not exist, or a port of such a name is not ours.
    """

    def change(tables: Tables, txn: Any) -> list[str]:
        bridges = {row.name: row for row in tables["Bridge"].rows.values()}
        home = bridges.get(integration)
        if home is None:
            raise UserError(f"bridge {integration} does not exist; patch ports need it")
        ends = [
            (near, home, far, name) if inner else (far, bridges[name], near, name)
            for name in sorted(set(wanted) & bridges.keys() - {integration})
            for near, far in [names(integration, name)]
            for inner in (True, False)
        ]
        changed = _remove(bridges, integration, {end for end, *_ in ends})
        for end in ends:
            changed += _ensure(tables, txn, *end, integration)
        return changed

    return change


def _remove(bridges: Mapping[str, Any], integration: str, wanted: set[str]) -> list[str]:
    """Take away the ends of ours that nobody wants; those of another integration bridge are not."""
    changed = []
    for bridge in bridges.values():
        for port in bridge.ports:
            ours = port.external_ids.get(MARK) == PATCH and _home(port, bridge) == integration
            if ours and port.name not in wanted:
                bridge.delvalue("ports", port)
                changed.append(f"port {port.name}: removed, nothing here needs it")
    return changed


def _home(port: Any, bridge: Any) -> str:
    """The integration bridge that an end of ours belongs to."""
    peer = port.external_ids.get(PEER, "")
    return str(bridge.name) if port.name == names(bridge.name, peer)[0] else str(peer)


def _ensure(tables: Tables, txn: Any, end: str, on: Any, other: str, bridge: str, integration: str) -> list[str]:
    port = next((row for row in tables["Port"].rows.values() if row.name == end), None)
    leads_to = bridge if on.name == integration else integration
    marks = {MARK: PATCH, PEER: leads_to}
    if port is None:
        interface = txn.insert(tables["Interface"])
        interface.name, interface.type, interface.options = end, "patch", {"peer": other}
        interface.external_ids = marks
        port = txn.insert(tables["Port"])
        port.name, port.interfaces, port.external_ids = end, [interface], marks
        on.addvalue("ports", port)
        return [f"port {end}: created, leads to {leads_to}"]
    if port.external_ids.get(MARK) != PATCH or port not in on.ports:
        raise UserError(
            f"a port {end} exists and is not our patch port on {on.name}; remove or rename it, or set "
            f"external_ids:{MARK}={PATCH} on it to hand it over"
        )
    interface, changed = port.interfaces[0], []
    for what, row, column, value in (
        ("peer", interface, "options", {"peer": other}), ("marks", interface, "external_ids", marks),
        ("marks", port, "external_ids", marks),
    ):  # fmt: skip
        for key, text in value.items():
            if getattr(row, column).get(key) != text:
                row.setkey(column, key, text)
                changed.append(f"port {end}: {what} corrected")
    if interface.type != "patch":
        interface.type = "patch"
        changed.append(f"port {end}: type=patch")
    return changed
