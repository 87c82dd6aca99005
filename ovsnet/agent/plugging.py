"""Plugging a port in: a device is made or taken, put on the integration bridge, and bound; unplugging undoes that."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ovsnet.agent import links
from ovsnet.agent.links import LinkError
from ovsnet.model.types import Port
from ovsnet.ovsdb import Ovsdb

Device = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$")]
Mtu = Annotated[int, msgspec.Meta(ge=68, le=65535)]


class PlugRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to plug: a new ``veth`` pair, a new ``tap``, or an ``existing`` network device, which ``interface`` names.

    Left out, the names of new devices follow from the port's id. ``peer`` is the workload's end of a veth pair; it gets
    the port's MAC. ``mtu`` in bytes; left out, the system's default.
    """

    kind: Literal["veth", "tap", "existing"] = "veth"
    interface: Device | None = None
    peer: Device | None = None
    mtu: Mtu | None = None


class PlugResult(msgspec.Struct, frozen=True):
    """What is plugged: ``peer`` is the workload's end of a veth pair that was made here; ``changed``: just now."""

    interface: str
    peer: str | None
    changed: bool


def plug(ovsdb: Ovsdb, vpc: str, name: str, port: Port, wanted: PlugRequest) -> PlugResult:
    """Plug a port in; a port that is plugged already, by whomever, stays as it is.

    Raises LinkError, UserError when the interface is another port's, OvsdbError.
    """
    path = f"{vpc}/{name}"
    there = ovsdb.plugged(port.id)
    if there is not None:
        if wanted.interface not in {None, there.interface}:
            raise LinkError(f"port {path} is plugged as {there.interface} already. Unplug that first")
        peer = wanted.peer or _name("op", port) if there.kind == "plug-veth" else None
        return PlugResult(there.interface, peer, False)
    interface = wanted.interface or _name("ov", port)
    peer = None
    made = False
    if wanted.kind == "existing":
        if wanted.interface is None:
            raise LinkError("an existing interface is to be plugged. Name it with interface")
        links.require(interface)
    elif wanted.kind == "tap":
        made = links.make_tap(interface, wanted.mtu, _mark(path))
    else:
        peer = wanted.peer or _name("op", port)
        made = links.make_veth(interface, peer, port.mac or "", wanted.mtu, _mark(path))
    try:
        done = ovsdb.plug(interface, port.id, path, port.mac or "", wanted.kind)
    except Exception:
        if made:
            links.remove(interface, _mark(path))
        raise
    return PlugResult(interface, peer, made or done.changed)


def unplug(ovsdb: Ovsdb, vpc: str, name: str, port: Port | None) -> list[str]:
    """Undo what :func:`plug` did for a port, and nothing else; returns the interfaces that are gone or unbound.

    ``port``: as it is declared, if it still is. Raises LinkError, OvsdbError.
    """
    path = f"{vpc}/{name}"
    gone = [one.interface for one in ovsdb.unplug(path)]
    made = {*gone, *([_name("ov", port)] if port is not None else [])}  # the latter: of a call that was interrupted
    removed = [interface for interface in sorted(made) if links.remove(interface, _mark(path))]
    return sorted({*gone, *removed})


def _name(prefix: str, port: Port) -> str:
    return prefix + port.id.replace("-", "")[:12]


def _mark(path: str) -> str:
    return f"ovsnet:{path}"
