"""Machines for the examples: a namespace with an eth0 stands for one. With a tap for the veth it would be QEMU."""

import subprocess
from pathlib import Path


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def vsctl(directory: Path, host: str, *words: str) -> None:
    """ovs-vsctl on a host of the lab that has this directory."""
    subprocess.run(["ovs-vsctl", f"--db=unix:{directory}/h/{host}/db.sock", *words], check=True)


def plug(directory: Path, host: str, device: str, ident: str) -> str:
    """Plug a device into a host's switch as libvirt does, with the port's id as iface-id; returns its other end."""
    inside = ("-n", f"ovsnet-{directory.name}.host.{host}", "link")
    ip(*inside, "add", device, "mtu", "1450", "type", "veth", "peer", "name", f"{device}-peer")
    ip(*inside, "set", device, "up")
    words = ("set", "interface", device, f"external_ids:iface-id={ident}")
    vsctl(directory, host, "add-port", "br-int", device, "--", *words)
    return f"{device}-peer"


def unplug(directory: Path, host: str, device: str) -> None:
    vsctl(directory, host, "del-port", "br-int", device)
    ip("-n", f"ovsnet-{directory.name}.host.{host}", "link", "delete", device)


def boot(lab: str, host: str, name: str, device: str, address: str, mac: str = "") -> None:
    """Start a machine of a lab whose NIC is a device on the host: the other end of what is plugged into the switch."""
    ip("netns", "add", f"{lab}-{name}")
    ip("-n", f"ovsnet-{lab}.host.{host}", "link", "set", device, "netns", f"{lab}-{name}", "name", "eth0")
    if mac:
        ip("-n", f"{lab}-{name}", "link", "set", "eth0", "address", mac)
    ip("-n", f"{lab}-{name}", "address", "add", address, "dev", "eth0")
    ip("-n", f"{lab}-{name}", "link", "set", "eth0", "mtu", "1450", "up")


def halt(lab: str, name: str) -> None:
    ip("netns", "delete", f"{lab}-{name}")


def answers(lab: str, name: str, address: str) -> int:
    """How many of three echo requests of a machine are answered."""
    argv = ["ip", "netns", "exec", f"{lab}-{name}", "ping", "-c", "3", "-i", "0.1", "-W", "1", address]
    out = subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    return int(out.split(" packets transmitted, ")[1].split()[0])
