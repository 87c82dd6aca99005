"""The control plane of a lab: certificates, a controller and, if it is wanted, a message bus, in a namespace apart."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ovsnet.errors import UserError
from ovsnet.lab import management, netns
from ovsnet.lab.daemon import Daemon
from ovsnet.lab.host import bus_options
from ovsnet.lab.topology import BUS_PORT, CONTROL, CONTROLLER_PORT, ControlSpec, HostSpec, Transport
from ovsnet.pki.authority import Directory, Request
from ovsnet.pki.files import locked
from ovsnet.pki.names import Kind
from ovsnet.pki.natsfile import configure

CONTROLLER = "controller"
BUS = "nats"
MONITOR_PORT = 8222
"""Where the bus tells about itself, on the control namespace's loopback only."""
_VALID = timedelta(days=365)
_STARTS_WITHIN = 10.0


def require(transport: Transport) -> None:
    """Raise UserError when a program that the transport needs is not installed."""
    if transport == "nats" and shutil.which("nats-server") is None:
        raise UserError(
            "nats-server is not installed. Install it (apt install nats-server), or choose --transport controller."
        )


def controller_of(control: ControlSpec) -> Daemon:
    """The controller, running or not."""
    return Daemon(control.run_dir, CONTROLLER)


def bus_of(control: ControlSpec) -> Daemon:
    """The nats-server, running or not."""
    return Daemon(control.run_dir, BUS)


def socket_of(control: ControlSpec) -> Path:
    """Where the controller's API is, for those on this machine."""
    return Path(control.run_dir) / "controller.sock"


def bring(control: ControlSpec, underlay: str, hosts: Collection[HostSpec], marker: str) -> list[str]:
    """Make what is missing of the control plane, and start what has died; returns what was started.

    Raises UserError when the bus does not start. The controller is ready when its socket answers, not yet now.
    """
    present = netns.marker_of(control.netns) is not None
    if not present:
        netns.create(control.netns, marker)
        netns.quiet_ipv6(control.netns)
    if not netns.has_interface(underlay, control.management.link):
        management.attach(control.netns, underlay, control.management)
    changed = certify(control, hosts)
    started = []
    if control.transport == "nats":
        if bus_of(control).pid is None:
            start_bus(control)
            started.append(BUS)
        elif changed:
            reload_bus(control)
    if controller_of(control).pid is None:
        start_controller(control)
        started.append(CONTROLLER)
    return started if present else []


def certify(control: ControlSpec, hosts: Collection[HostSpec]) -> bool:
    """Give everybody who has none a certificate; whether somebody got one."""
    now = datetime.now(UTC)
    wanted = [Request(Kind.HOST, host.name, (host.management.address,)) for host in hosts if host.management]
    wanted += [
        Request(Kind.PUBLISHER, CONTROLLER),
        Request(Kind.SERVER, CONTROLLER, (CONTROL,)),
        Request(Kind.SERVER, BUS, (CONTROL,)),
    ]
    with locked(Path(control.pki_dir)):
        directory = Directory(Path(control.pki_dir))
        directory.make_authorities(now, _VALID)
        outcomes = directory.issue(wanted, now, _VALID)
        directory.refresh_trust()
    return any(one.action == "made" for one in outcomes)


def start_bus(control: ControlSpec, port: int = BUS_PORT) -> int:
    """Start the nats-server and wait until it accepts; returns its process id.

    With another ``port`` than the usual one it is behind whatever listens there. Raises UserError when it ends at once.
    """
    config = _configure_bus(control, port)
    daemon = bus_of(control)
    pid = daemon.start(control.netns, ["nats-server", "-c", str(config)])
    deadline = time.monotonic() + _STARTS_WITHIN
    while not _accepts(control, port):
        if daemon.pid is None or time.monotonic() > deadline:
            raise UserError(f"nats-server does not start. Its log ends:\n{daemon.log_end()}")
        time.sleep(0.02)
    return pid


def reload_bus(control: ControlSpec) -> None:
    """Let the running nats-server take up the certificates that there are now, on the port that it has."""
    pid = bus_of(control).pid
    _configure_bus(control, None)
    if pid is not None:
        os.kill(pid, signal.SIGHUP)


def _configure_bus(control: ControlSpec, port: int | None) -> Path:
    """Write the bus's configuration: what the certificates' directory says, and where it tells about itself."""
    with locked(Path(control.pki_dir)):
        listen = None if port is None else f"[{CONTROL}]:{port}"
        made, _ = configure(Directory(Path(control.pki_dir)), BUS, listen=listen)
    config = Path(control.run_dir) / "nats.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    lines = made.read_text().splitlines()
    if not control.bus.startswith("tls:"):
        lines = [line for line in lines if line.startswith(("listen:", "max_payload:"))]
    config.write_text("\n".join([*lines, f'http: "127.0.0.1:{MONITOR_PORT}"', ""]))
    return config


def _accepts(control: ControlSpec, port: int) -> bool:
    with netns.inside(control.netns), socket.socket(socket.AF_INET6) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((CONTROL, port)) == 0


def start_controller(control: ControlSpec, environment: Mapping[str, str] | None = None) -> int:
    """Start the controller; returns its process id. It is ready when its socket answers, not yet now."""
    run_dir, pki = Path(control.run_dir), Path(control.pki_dir)
    mine, server = Path(control.management.tls_dir), pki / "servers" / CONTROLLER
    command = [sys.executable, "-m", "ovsnet.controller.main", "--name", CONTROLLER, "--run-dir", str(run_dir)]
    command += ["--store", f"sqlite:///{run_dir / 'store' / 'controller.db'}"]
    command += ["--listen", f"[{CONTROL}]:{CONTROLLER_PORT}", "--tokens", str(pki / "tokens.json")]
    command += ["--tls-cert", str(server / "cert.pem"), "--tls-key", str(server / "key.pem")]
    cert, key = str(mine / "cert.pem"), str(mine / "key.pem")
    command += bus_options(control.bus, control.management.tls_dir)
    if control.transport == "controller":
        command += ["--direct", "--agent-cert", cert, "--agent-key", key, "--agent-ca", str(mine / "hosts-ca.pem")]
    (run_dir / "store").mkdir(parents=True, exist_ok=True)
    return controller_of(control).start(control.netns, command, environment)
