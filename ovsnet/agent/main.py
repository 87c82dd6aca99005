"""``ovsnet-agent``: the agent's process, in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, get_args

from ovsnet._version import VERSION
from ovsnet.agent.config import AUDIT_EVERY, BOOT_ID_FILE, Config
from ovsnet.agent.joining import BusConfig, add_options, bus_of, join
from ovsnet.errors import UserError
from ovsnet.http.service import (
    Listener,
    Tls,
    log_to_stderr,
    notify_ready,
    parse_listen,
    pid_file,
    tcp_listener,
    unix_listener,
)
from ovsnet.model.checks import MAX_MTU, MIN_MTU, NAME
from ovsnet.model.numbers import ip_int, ip_text
from ovsnet.model.types import Encapsulation
from ovsnet.openflow.process import SwitchProcess
from ovsnet.ovsdb.target import unix_directory

if TYPE_CHECKING:
    from ovsnet.agent.agent import Agent

log = logging.getLogger("ovsnet.agent")

HEAD_START = 1.0
"""Seconds for the first reconciliation before the API, whose modules take a while to load, is started anyway."""
GC_THRESHOLD = (50_000, 20, 50)
"""The collector's thresholds: a state of 10,000 ports makes ten times as many objects, and hardly any cycles."""

EPILOG = """\
The API is HTTP on RUN_DIR/agent.sock. SIGTERM ends the agent; the flows stay.

Example: ovsnet-agent --host hv1 --vtep 10.0.0.11"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the agent until SIGTERM or SIGINT; exits with 2 and one line for a user's mistake."""
    try:
        options = parser().parse_args(argv)
        log_to_stderr(json=options.log_json, host=options.host)
        status = run(config_of(options), options.run_dir, remote_of(options), bus_of(options))
    except UserError as exc:
        print(f"ovsnet-agent: {exc}", file=sys.stderr)  # noqa: T201
        sys.exit(exc.exit_code)
    sys.exit(status)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="ovsnet-agent",
        description="Keeps one hypervisor's Open vSwitch at the virtual networks that it is told of.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("--host", required=True, help="this host's name in the model")
    add("--vtep", required=True, help="this host's tunnel address, IPv4 or IPv6")
    add("--ovsdb", default="unix:/run/openvswitch/db.sock", help="the OVSDB server (default: %(default)s)")
    add("--openflow", help="the bridge's management socket (default: BRIDGE.mgmt beside the OVSDB socket)")
    add("--bridge", default="br-int", help="the integration bridge (default: %(default)s)")
    _add_tunnels(add)
    add(
        "--run-dir",
        type=Path,
        default=Path("/run/ovsnet"),
        help="for the socket and the pid file (default: %(default)s)",
    )
    add("--state-dir", type=Path, default=Path("/var/lib/ovsnet"), help="what was told, kept (default: %(default)s)")
    _add_service(add)
    add(
        "--audit-interval",
        type=float,
        default=AUDIT_EVERY,
        metavar="SECONDS",
        help="between audits (default: %(default)s)",
    )
    add(
        "--boot-policy",
        choices=["hold", "open"],
        default="hold",
        help="after a boot, ports stay down until their placement is confirmed (hold), or for --boot-grace at most",
    )
    add("--boot-grace", type=float, default=60.0, metavar="SECONDS", help="see --boot-policy (default: %(default)s)")
    add("--boot-id-file", type=Path, default=BOOT_ID_FILE, help="says which boot this is (default: %(default)s)")
    add_options(found)
    add("--log-json", action="store_true", help="log one JSON object a line")
    add("--version", action="version", version=f"ovsnet-agent {VERSION}")
    return found


def _add_tunnels(add: Callable[..., object]) -> None:
    """The options that say what carries packets between hosts."""
    add(
        "--datapath", choices=["system", "netdev"], default="system", help="kernel or user space (default: %(default)s)"
    )
    add(
        "--encapsulation",
        choices=get_args(Encapsulation),
        default="vxlan",
        help="of the tunnels, the same on all hosts (default: %(default)s)",
    )
    add(
        "--underlay-mtu",
        type=int,
        default=1500,
        metavar="BYTES",
        help="of the network that carries the tunnels; ports are told what fits (default: %(default)s)",
    )


def _add_service(add: Callable[..., object]) -> None:
    """The options that let others than this host call."""
    add(
        "--listen",
        metavar="ADDRESS:PORT",
        help="serve the API by TLS there too, to callers with a certificate (default: only on the socket)",
    )
    add("--tls-cert", type=Path, metavar="PEM", help="this host's certificate, for --listen")
    add("--tls-key", type=Path, metavar="PEM", help="the certificate's key")
    add("--tls-ca", type=Path, metavar="PEM", help="the authority of those who may call")


def config_of(options: argparse.Namespace) -> Config:
    """The configuration that the command line gives. Raises UserError."""
    try:
        vtep = ip_text(*ip_int(options.vtep))
    except (OSError, ValueError):
        raise UserError(f"--vtep {options.vtep}: not an IP address. Give the host's tunnel address") from None
    if not NAME.fullmatch(options.host):
        raise UserError(f"--host {options.host}: no name of a host. Give it as the model has it, such as hv1")
    openflow = options.openflow
    if openflow is None:
        directory = unix_directory(options.ovsdb)
        if directory is None:
            raise UserError(f"--ovsdb {options.ovsdb} is no unix socket, so the bridge's is unknown. Give --openflow")
        openflow = f"unix:{directory / (options.bridge + '.mgmt')}"
    if not MIN_MTU <= options.underlay_mtu <= MAX_MTU:
        raise UserError(f"--underlay-mtu {options.underlay_mtu}: give {MIN_MTU} to {MAX_MTU} bytes")
    if options.audit_interval <= 0:
        raise UserError(f"--audit-interval {options.audit_interval:g}: give seconds, more than 0")
    if options.boot_grace < 0:
        raise UserError(f"--boot-grace {options.boot_grace:g}: give seconds, 0 or more")
    return Config(
        host=options.host,
        vtep=vtep,
        ovsdb=options.ovsdb,
        openflow=openflow,
        state_dir=options.state_dir,
        bridge=options.bridge,
        datapath=options.datapath,
        encapsulation=options.encapsulation,
        underlay_mtu=options.underlay_mtu,
        audit_every=options.audit_interval,
        boot_id_file=options.boot_id_file,
        boot_policy=options.boot_policy,
        boot_grace=options.boot_grace,
    )


def remote_of(options: argparse.Namespace) -> tuple[str, Tls] | None:
    """Where to serve by TLS, ``None`` for nowhere. Raises UserError."""
    files = [options.tls_cert, options.tls_key, options.tls_ca]
    if options.listen is None:
        if any(files):
            raise UserError("--tls-cert, --tls-key and --tls-ca are for --listen. Give that too")
        return None
    if not all(files):
        raise UserError("--listen needs --tls-cert, --tls-key and --tls-ca. `ovsnet pki` makes them")
    parse_listen(options.listen)
    return options.listen, Tls(*files)


def run(config: Config, run_dir: Path, remote: tuple[str, Tls] | None = None, bus: BusConfig | None = None) -> int:
    """Run an agent to its end, on a ``bus`` if one is given; returns the process's exit status. Raises UserError."""
    ended = threading.Event()
    gc.disable()  # nothing that is made at the start is garbage, and looking for some costs a third of the time

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with contextlib.ExitStack() as stack:
        stack.enter_context(pid_file(run_dir, "agent"))
        listeners = [stack.enter_context(unix_listener(run_dir / "agent.sock"))]
        if remote is not None:
            listeners.append(stack.enter_context(tcp_listener(*remote)))
        switch = SwitchProcess(config.openflow)
        stack.callback(switch.stop)
        from ovsnet.agent.agent import Agent  # while the child loads its own

        agent = Agent(config, switch).start()
        stack.callback(agent.stop)
        _head_start(agent, ended)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        gc.enable()
        if agent.refusal is not None:
            raise agent.refusal
        if bus is not None:
            stack.callback(join(agent, bus))
        if not ended.is_set():
            _serve(agent, listeners)
    log.info("ended; the flows stay in the switch")
    return 0


def _head_start(agent: Agent, ended: threading.Event) -> None:
    """Let the first reconciliation be done, or fail, before anything else takes the interpreter's time."""
    start = time.monotonic()
    while time.monotonic() - start < HEAD_START and not ended.wait(0.005):
        if agent.reconciler.status.synced or agent.refusal is not None:
            return


def _serve(agent: Agent, listeners: Sequence[Listener]) -> None:
    """Serve the API until a signal ends it."""
    from ovsnet.agent.api import create_app
    from ovsnet.http.serve import serve

    notify_ready()
    for listener in listeners:
        log.info("serving the API on %s", listener.place)
    serve(create_app(agent), listeners, on_stop=agent.events.close)


if __name__ == "__main__":
    main()
