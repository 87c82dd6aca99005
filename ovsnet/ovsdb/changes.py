"""The changes we make to a switch's configuration, each a function of the rows as they are.

All of them write only what differs, touch single keys of maps and sets (so that other people's stay, also in a race),
and return what they changed in words; nothing to change means no transaction at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ovsnet.errors import UserError
from ovsnet.model.types import Encapsulation
from ovsnet.ovsdb.state import INTEGRATION, MARK, TUNNEL

RESTORE_WAIT = "flow-restore-wait"
UDP_PORTS: dict[Encapsulation, int] = {"vxlan": 4789, "geneve": 6081}
"""Where tunnels end: RFC 7348, RFC 8926."""
ARMED = "ovsnet-restore-wait"
"""The key in the switch's ``external_ids`` that says that we set ``flow-restore-wait``."""

Tables = Mapping[str, Any]


def _root(tables: Tables) -> Any:
    row = next(iter(tables["Open_vSwitch"].rows.values()), None)
    if row is None:
        raise UserError("the Open vSwitch database is empty; initialise it with `ovs-vsctl --no-wait init`")
    return row


def _find(tables: Tables, table: str, name: str) -> Any:
    return next((row for row in tables[table].rows.values() if row.name == name), None)


def _set_keys(row: Any, column: str, wanted: Mapping[str, str], what: str) -> list[str]:
    """Set keys of a map column that differ; the other keys stay."""
    present = getattr(row, column)
    changed = []
    for key, value in wanted.items():
        if present.get(key) != value:
            row.setkey(column, key, value)
            changed.append(f"{what}: {column}:{key}={value}")
    return changed


def _set_value(row: Any, column: str, value: Any, what: str) -> list[str]:
    if getattr(row, column) == value:
        return []
    setattr(row, column, value)
    shown = value[0] if isinstance(value, list) and value else value
    return [f"{what}: {column}={shown}"]


def foreign_owner(root: Any, bridge: Any) -> str:
    """Who else seems to own a bridge that does not carry our mark; empty when nobody does."""
    if bridge.controller:
        return "it has a controller: " + ", ".join(sorted(row.target for row in bridge.controller))
    ids = root.external_ids
    if "ovn-remote" in ids and ids.get("ovn-bridge", "br-int") == bridge.name:
        return "OVN is configured to use it (external_ids:ovn-remote)"
    if any(key.startswith("ct-zone-") for key in bridge.external_ids):
        return "OVN has used it (external_ids:ct-zone-...)"
    return ""


def integration_bridge(name: str, datapath_type: str) -> Callable[[Tables, Any], list[str]]:
    """Create or correct the integration bridge.

    Raises UserError when a bridge of that name belongs to somebody else.
    """

    def change(tables: Tables, txn: Any) -> list[str]:
        root = _root(tables)
        root.increment("next_cfg")
        bridge = _find(tables, "Bridge", name)
        if bridge is None:
            _insert_bridge(tables, txn, root, name, datapath_type)
            return [f"bridge {name}: created"]
        owner = "" if MARK in bridge.external_ids else foreign_owner(root, bridge)
        if owner:
            raise UserError(
                f"bridge {name} belongs to somebody else: {owner}. Give another name with --bridge, or set "
                f"external_ids:{MARK}={INTEGRATION} on it to hand it over"
            )
        what = f"bridge {name}"
        changed = _set_keys(bridge, "external_ids", {MARK: INTEGRATION}, what)
        changed += _set_keys(bridge, "other_config", {"disable-in-band": "true"}, what)
        changed += _set_value(bridge, "fail_mode", ["secure"], what)
        if (bridge.datapath_type or "system") != datapath_type:
            changed += _set_value(bridge, "datapath_type", datapath_type, what)
        # An empty set means every version, which includes ours.
        if bridge.protocols and "OpenFlow14" not in bridge.protocols:
            bridge.addvalue("protocols", "OpenFlow14")
            changed.append(f"{what}: protocols+=OpenFlow14")
        if bridge.controller:
            bridge.controller = []
            changed.append(f"{what}: controller removed")
        return changed

    return change


def _insert_bridge(tables: Tables, txn: Any, root: Any, name: str, datapath_type: str) -> None:
    interface = txn.insert(tables["Interface"])
    interface.name = name
    interface.type = "internal"
    port = txn.insert(tables["Port"])
    port.name = name
    port.interfaces = [interface]
    bridge = txn.insert(tables["Bridge"])
    bridge.name = name
    bridge.ports = [port]
    bridge.datapath_type = datapath_type
    bridge.fail_mode = ["secure"]
    bridge.other_config = {"disable-in-band": "true"}
    bridge.external_ids = {MARK: INTEGRATION}
    root.addvalue("bridges", bridge)


def tunnel_port(bridge_name: str, kind: Encapsulation, local_ip: str) -> Callable[[Tables, Any], list[str]]:
    """Create or correct our flow-based tunnel port, and remove ours of other names from the bridge.

    Raises UserError when the bridge does not exist or a port of that name is not ours.
    """
    name = f"{kind}0"
    options = {"remote_ip": "flow", "key": "flow", "local_ip": local_ip, "dst_port": str(UDP_PORTS[kind])}

    def change(tables: Tables, txn: Any) -> list[str]:
        root = _root(tables)
        root.increment("next_cfg")
        bridge = _find(tables, "Bridge", bridge_name)
        if bridge is None:
            raise UserError(f"bridge {bridge_name} does not exist; the tunnel port needs it")
        changed = []
        for stale in [p for p in bridge.ports if p.external_ids.get(MARK) == TUNNEL and p.name != name]:
            bridge.delvalue("ports", stale)
            changed.append(f"port {stale.name}: removed, a tunnel port of ours by another name")
        port = _find(tables, "Port", name)
        if port is None:
            _insert_tunnel(tables, txn, bridge, name, kind, options)
            return [*changed, f"port {name}: created, {kind} from {local_ip}"]
        if port.external_ids.get(MARK) != TUNNEL or port not in bridge.ports:
            raise UserError(
                f"a port {name} exists and is not our tunnel port on {bridge_name}; remove or rename it, "
                f"or set external_ids:{MARK}={TUNNEL} on it to hand it over"
            )
        interface = port.interfaces[0]
        changed += _set_value(interface, "type", kind, f"port {name}")
        changed += _set_keys(interface, "options", options, f"port {name}")
        changed += _set_keys(interface, "external_ids", {MARK: TUNNEL}, f"port {name}")
        return changed

    return change


def _insert_tunnel(tables: Tables, txn: Any, bridge: Any, name: str, kind: str, options: dict[str, str]) -> None:
    interface = txn.insert(tables["Interface"])
    interface.name = name
    interface.type = kind
    interface.options = options
    interface.external_ids = {MARK: TUNNEL}
    port = txn.insert(tables["Port"])
    port.name = name
    port.interfaces = [interface]
    port.external_ids = {MARK: TUNNEL}
    bridge.addvalue("ports", port)


def arm(tables: Tables, txn: Any) -> bool:
    """Keep ``flow-restore-wait`` true where all bridges are ours, and take ours back where they are not; true if armed.

    The setting holds back all bridges of a switch that starts, so a bridge that nobody releases would stay dark.
    """
    root = _root(tables)
    wanted = all(MARK in bridge.external_ids for bridge in root.bridges)
    armed = ARMED in root.external_ids
    if wanted and not armed and RESTORE_WAIT in root.other_config:
        return False  # somebody else is in the middle of a restart: leave it to them
    if wanted:
        _set_keys(root, "other_config", {RESTORE_WAIT: "true"}, "switch")
        _set_keys(root, "external_ids", {ARMED: "true"}, "switch")
    elif armed:
        root.delkey("other_config", RESTORE_WAIT)
        root.delkey("external_ids", ARMED)
    return wanted


def release(tables: Tables, txn: Any) -> int | None:
    """Let a waiting ovs-vswitchd go; the ``cur_cfg`` that proves it has seen this, ``None`` if we did not arm."""
    root = _root(tables)
    if ARMED not in root.external_ids:
        return None
    root.setkey("other_config", RESTORE_WAIT, "false")
    return request_pass(tables, txn)


def request_pass(tables: Tables, txn: Any) -> int:
    """Ask ovs-vswitchd for a pass over the configuration; the ``cur_cfg`` that proves it was made."""
    root = _root(tables)
    root.verify("next_cfg")
    serial = int(root.next_cfg) + 1
    root.next_cfg = serial
    return serial
