"""Network namespaces and what is in them: the only place of the lab that talks netlink.

A namespace of a lab carries a marker, the alias of its loopback interface, which is there before the namespace has a
name: so that a namespace with a lab's name and without the marker is certainly not the lab's.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2 import netns as _netns
from pyroute2.netlink.exceptions import NetlinkError

KernelError = NetlinkError
"""What the kernel answers by netlink when it refuses something."""

NETNS_DIR = Path("/run/netns")

_CLONE_NEWNET = 0x40000000
_IFA_F_NODAD = 0x02
_NTF_USE = 0x01
_NUD_NONE = 0
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_libc = ctypes.CDLL(None, use_errno=True)


def _set_thread_netns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Put the calling thread into the namespace ``name``; what it opens there (sockets, processes) stays there.

    Raises FileNotFoundError when there is no such namespace.
    """
    there = os.open(NETNS_DIR / name, os.O_RDONLY)
    try:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _set_thread_netns(there)
            try:
                yield
            finally:
                _set_thread_netns(here)
        finally:
            os.close(here)
    finally:
        os.close(there)


def names(prefix: str) -> list[str]:
    """The names of the namespaces that start with ``prefix``, sorted."""
    try:
        return sorted(name for name in os.listdir(NETNS_DIR) if name.startswith(prefix))
    except FileNotFoundError:
        return []


def create(name: str, marker: str) -> None:
    """Make a namespace with its loopback up. Raises FileExistsError when the name is taken.

    The marker is set before the name appears, so a crash in between leaves nothing that could not be recognised.
    """
    failure: list[BaseException] = []

    def make() -> None:
        try:
            if _libc.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            with IPRoute() as ip:
                ip.link("set", index=1, ifalias=marker, state="up")
            _netns.attach(name, "thread-self")
        except BaseException as error:
            failure.append(error)

    # A thread of its own: it is never brought back from the namespace that it made.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def marker_of(name: str) -> str | None:
    """The marker of a namespace; ``""`` for one that has none (or is a bare file), ``None`` when there is none."""
    try:
        with inside(name), IPRoute() as ip:
            return str(ip.link("get", index=1)[0].get_attr("IFLA_IFALIAS") or "")
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def is_placeholder(name: str) -> bool:
    """Whether ``name`` is an empty file where a namespace would have been mounted (a crash in the middle of it)."""
    path = NETNS_DIR / name
    try:
        return path.stat().st_size == 0 and not os.path.ismount(path) and path.stat().st_dev == NETNS_DIR.stat().st_dev
    except FileNotFoundError:
        return False


def delete(name: str) -> None:
    """Remove a namespace's name; the kernel ends it, with its interfaces, once nothing uses it."""
    with contextlib.suppress(FileNotFoundError):
        _netns.remove(name)


def pids_in(namespaces: Iterable[str]) -> dict[int, str]:
    """The processes that live in the given namespaces: process id to namespace."""
    inodes: dict[tuple[int, int], str] = {}
    for name in namespaces:
        with contextlib.suppress(FileNotFoundError):
            found = (NETNS_DIR / name).stat()
            inodes[found.st_dev, found.st_ino] = name
    found_in: dict[int, str] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                stat = os.stat(f"/proc/{entry}/ns/net")
                if (stat.st_dev, stat.st_ino) in inodes:
                    found_in[int(entry)] = inodes[stat.st_dev, stat.st_ino]
    return found_in


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not (and one that is our child is reaped)."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def end(pids: Iterable[int], sig: int = signal.SIGTERM, patience: float = 3.0) -> None:
    """End processes by their ids: ``sig`` to all, and SIGKILL to those that still run after ``patience`` seconds."""
    left = list(pids)
    for number in (sig, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while left and time.monotonic() < deadline:
            left = [pid for pid in left if alive(pid)]
            time.sleep(0.01 if left else 0)
        if not left:
            return


def veth(host: str, near: str, far_netns: str, far: str, *, mtu: int, far_mac: str | None = None) -> None:
    """Make a veth pair straight into two namespaces, both ends up; older interfaces of these names are replaced.

    ``near`` is the end whose frames a host's switch reads: the kernel must not answer there (see ``leave_to_switch``).
    ``far_mac`` is the far end's MAC.
    """
    unplug(host, near)
    unplug(far_netns, far)
    fds = [os.open(NETNS_DIR / name, os.O_RDONLY) for name in (host, far_netns)]
    try:
        peer: dict[str, object] = {"ifname": far, "net_ns_fd": fds[1], "mtu": mtu}
        if far_mac:
            peer["address"] = far_mac
        with IPRoute() as ip:
            ip.link("add", ifname=near, kind="veth", mtu=mtu, net_ns_fd=fds[0], peer=peer)
    finally:
        for fd in fds:
            os.close(fd)
    with inside(host), IPRoute() as ip:
        ip.link("set", index=_index(ip, near), state="up", arp=False)
    with inside(far_netns), IPRoute() as ip:
        ip.link("set", index=_index(ip, far), state="up")


def unplug(name: str, interface: str) -> None:
    """Delete an interface of a namespace (and with it a veth's other end); one that is not there is fine."""
    with contextlib.suppress(FileNotFoundError), inside(name), IPRoute() as ip:
        found = ip.link_lookup(ifname=interface)
        if found:
            with contextlib.suppress(NetlinkError):
                ip.link("del", index=found[0])


def link(name: str, interface: str, *, up: bool) -> None:
    """Bring an interface of a namespace up, or take it down. Raises OSError if there is none."""
    with inside(name), IPRoute() as ip:
        ip.link("set", index=_index(ip, interface), state="up" if up else "down")


def has_interface(name: str, interface: str) -> bool:
    """Whether the namespace exists and holds that interface."""
    try:
        with inside(name), IPRoute() as ip:
            return bool(ip.link_lookup(ifname=interface))
    except FileNotFoundError:
        return False


def _index(ip: IPRoute, interface: str) -> int:
    found = ip.link_lookup(ifname=interface)
    if not found:
        raise OSError(errno.ENODEV, f"no interface {interface}")
    return int(found[0])


def configure(name: str, interface: str, *, addresses: Iterable[str], gateways: Iterable[str], up: bool = True) -> None:
    """Give an interface its addresses (``IP/LENGTH``, usable at once) and default routes.

    A gateway of ``0.0.0.0`` or ``::`` means that everything is on the link.
    """
    with inside(name), IPRoute() as ip:
        index = _index(ip, interface)
        if up:
            ip.link("set", index=index, state="up")
        for address in addresses:
            text, length = address.split("/")
            ip.addr("replace", index=index, address=text, prefixlen=int(length), flags=_IFA_F_NODAD)
        for gateway in gateways:
            dst = "::/0" if ":" in gateway else "0.0.0.0/0"
            if gateway in {"0.0.0.0", "::"}:
                ip.route("replace", dst=dst, oif=index, scope=253)
            else:
                ip.route("replace", dst=dst, gateway=gateway, oif=index)


def default_routes(name: str, interface: str, gateways: Collection[str]) -> None:
    """Let the default routes through an interface be those by ``gateways``, at most one of each IP version.

    A route that is right already stays as it is.
    """
    with inside(name), IPRoute() as ip:
        index = _index(ip, interface)
        for family, dst in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
            wanted = {gateway for gateway in gateways if (":" in gateway) == (family == socket.AF_INET6)}
            found = {
                str(route.get_attr("RTA_GATEWAY"))
                for route in ip.get_default_routes(family=family)
                if route.get_attr("RTA_OIF") == index
            }
            for gateway in found - wanted:
                ip.route("del", dst=dst, gateway=gateway, oif=index, family=family)
            for gateway in wanted - found:
                ip.route("replace", dst=dst, gateway=gateway, oif=index)


def bridge(name: str, interface: str, *, mtu: int) -> None:
    """Make a Linux bridge that forwards at once and has no addresses of its own."""
    with inside(name), IPRoute() as ip:
        ip.link("add", ifname=interface, kind="bridge", br_forward_delay=0, br_mcast_snooping=0, mtu=mtu)
        ip.link("set", index=_index(ip, interface), state="up", mtu=mtu)


def enslave(name: str, interface: str, master: str) -> None:
    """Put an interface into a bridge of its namespace."""
    with inside(name), IPRoute() as ip:
        ip.link("set", index=_index(ip, interface), master=_index(ip, master))


def release(name: str, interface: str) -> None:
    """Take an interface out of its bridge: what arrives there ends there."""
    with inside(name), IPRoute() as ip:
        ip.link("set", index=_index(ip, interface), master=0)


def master(name: str, interface: str) -> int | None:
    """The index of the bridge that an interface is in, ``None`` if in none. Raises OSError when there is none."""
    with inside(name), IPRoute() as ip:
        found = ip.link("get", index=_index(ip, interface))[0].get_attr("IFLA_MASTER")
    return int(found) if found else None


def leave_to_switch(name: str) -> None:
    """Keep the kernel of a host's namespace from answering on interfaces made later, whose frames a switch reads.

    The VTEP address is on another interface of the namespace, yet Linux would take packets to it on any.
    """
    sysctl(name, {"ipv4/conf/default/rp_filter": "1", "ipv6/conf/default/disable_ipv6": "1"})


def resolve(name: str, interface: str, addresses: Iterable[str]) -> None:
    """Let the kernel ask for the MAC of each address again, whether or not it knows it; no packet is sent to it."""
    with inside(name), IPRoute() as ip:
        index = _index(ip, interface)
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with contextlib.suppress(NetlinkError):
                ip.neigh("del", dst=address, ifindex=index, family=family)
            ip.neigh("replace", dst=address, ifindex=index, family=family, state=_NUD_NONE, flags=_NTF_USE)


def sysctl(name: str, values: dict[str, str]) -> None:
    """Set kernel parameters below ``net/`` of a namespace, for example ``{"ipv6/conf/eth0/accept_ra": "0"}``."""
    with inside(name):
        for key, value in values.items():
            Path("/proc/sys/net", key).write_text(value)


def quiet_ipv6(name: str) -> None:
    """Interfaces made later in this namespace use their IPv6 addresses at once and solicit no routers."""
    values = {"accept_dad": "0", "dad_transmits": "0", "accept_ra": "0", "router_solicitations": "0"}
    sysctl(name, {f"ipv6/conf/{which}/{key}": value for which in ("all", "default") for key, value in values.items()})


def checksum_offload_off(name: str, interface: str) -> None:
    """``ethtool -K INTERFACE tx off``: a user-space datapath sees frames whose checksums nobody would fill in."""
    request = array.array("I", [_ETHTOOL_STXCSUM, 0])
    with inside(name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        ifreq = struct.pack("16sP16x", interface.encode(), request.buffer_info()[0])
        fcntl.ioctl(control.fileno(), _SIOCETHTOOL, ifreq)
