"""Machines for the examples: a namespace with an eth0 stands for one. With a tap in place of the veth it would be QEMU."""

import subprocess


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=False, capture_output=True, text=True).stdout


def boot(lab: str, host: str, name: str, device: str, address: str) -> None:
    """Start a machine of a lab whose NIC is a device on the host: the other end of what is plugged into the switch."""
    ip("netns", "add", f"{lab}-{name}")
    ip("-n", f"ovsnet-{lab}.host.{host}", "link", "set", device, "netns", f"{lab}-{name}", "name", "eth0")
    ip("-n", f"{lab}-{name}", "address", "add", address, "dev", "eth0")
    ip("-n", f"{lab}-{name}", "link", "set", "eth0", "mtu", "1450", "up")


def halt(lab: str, name: str) -> None:
    ip("netns", "delete", f"{lab}-{name}")


def answers(lab: str, name: str, address: str) -> int:
    """How many of three echo requests of a machine are answered."""
    out = ip("netns", "exec", f"{lab}-{name}", "ping", "-c", "3", "-i", "0.1", "-W", "1", address)
    return int(out.split(" packets transmitted, ")[1].split()[0])
