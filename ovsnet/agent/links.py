"""Network devices that the agent makes for ports, with ``ip`` (iproute2), in the network namespace it runs in."""

from __future__ import annotations

import subprocess

import msgspec

from ovsnet.errors import UserError

WITHIN = 10
"""Seconds that ``ip`` may take."""


class LinkError(UserError):
    """A device cannot be made, or is somebody else's."""

    code = "link-failed"


def make_veth(name: str, peer: str, mac: str, mtu: int | None, mark: str) -> bool:
    """A pair of virtual Ethernet devices; false if it is there already. ``mac`` is the peer's, ``mtu`` that of both.

    ``mark`` is kept with the device (its alias), and says that it is ours. Raises LinkError.
    """
    if _ours(name, mark):
        return False
    size = [] if mtu is None else ["mtu", str(mtu)]
    _ip("link", "add", name, *size, "type", "veth", "peer", "name", peer, "address", mac, *size)
    _finish(name, mark)
    return True


def make_tap(name: str, mtu: int | None, mark: str) -> bool:
    """A persistent tap device, which a virtual machine's process opens; false if it is there already.

    Raises LinkError.
    """
    if _ours(name, mark):
        return False
    _ip("tuntap", "add", "dev", name, "mode", "tap")
    if mtu is not None:
        _ip("link", "set", "dev", name, "mtu", str(mtu))
    _finish(name, mark)
    return True


def require(name: str) -> None:
    """Raises LinkError when there is no such device."""
    if _alias(name) is None:
        raise LinkError(f"there is no network device {name}. Make it first, or have one made with kind veth or tap")


def remove(name: str, mark: str) -> bool:
    """Remove a device of ours (a veth goes with its peer, wherever that is); false if there is none."""
    if _alias(name) != mark:
        return False
    _ip("link", "delete", "dev", name)
    return True


def _finish(name: str, mark: str) -> None:
    try:
        _ip("link", "set", "dev", name, "alias", mark, "up")
    except LinkError:
        _ip("link", "delete", "dev", name)
        raise


def _ours(name: str, mark: str) -> bool:
    alias = _alias(name)
    if alias not in {None, mark}:
        whose = f"marked {alias}" if alias else "not marked as ours"
        raise LinkError(f"a network device {name} exists and is {whose}. Name another one, or plug it as existing")
    return alias is not None


def _alias(name: str) -> str | None:
    """The alias of a device, empty if it has none, ``None`` if there is no such device."""
    done = _run("-json", "link", "show", "dev", name)
    if done.returncode:
        return None
    found = msgspec.json.decode(done.stdout)
    return str(found[0].get("ifalias", "")) if found else None


def _ip(*argv: str) -> None:
    done = _run(*argv)
    if done.returncode:
        raise LinkError(f"ip {' '.join(argv)}: {done.stderr.decode(errors='replace').strip()}")


def _run(*argv: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ip", *argv], capture_output=True, timeout=WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise LinkError(f"cannot run ip (of iproute2): {exc}. Install it, or plug an interface by yourself") from None
