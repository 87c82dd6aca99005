"""``ovsnet-agent``: the agent's process, in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import msgspec

from ovsnet._version import VERSION
from ovsnet.agent.agent import Agent, Config
from ovsnet.agent.boot import BOOT_ID_FILE
from ovsnet.errors import UserError
from ovsnet.model.checks import NAME
from ovsnet.model.numbers import ip_int, ip_text
from ovsnet.ovsdb.target import unix_directory

log = logging.getLogger("ovsnet.agent")

HEAD_START = 1.0
"""Seconds for the first reconciliation before the API, whose modules take a while to load, is started anyway."""
GC_THRESHOLD = (50_000, 20, 50)
"""The collector's thresholds: a state of 10,000 ports makes ten times as many objects, and hardly any cycles."""
SOCKET_MODE = 0o660
MAX_SOCKET_PATH = 107


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the agent until SIGTERM or SIGINT; exits with 2 and one line for a user's mistake."""
    try:
        options = _parser().parse_args(argv)
        _log_to_stderr(json=options.log_json)
        status = run(config_of(options), options.run_dir)
    except UserError as exc:
        print(f"ovsnet-agent: {exc}", file=sys.stderr)  # noqa: T201
        sys.exit(exc.exit_code)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ovsnet-agent",
        description="Keeps one hypervisor's Open vSwitch at the virtual networks that it is told of.",
        epilog="The API is HTTP on RUN_DIR/agent.sock. SIGTERM ends the agent; the flows stay.",
    )
    add = parser.add_argument
    add("--host", required=True, help="this host's name in the model")
    add("--vtep", required=True, help="this host's tunnel address, IPv4 or IPv6")
    add("--ovsdb", default="unix:/run/openvswitch/db.sock", help="the OVSDB server (default: %(default)s)")
    add("--openflow", help="the bridge's management socket (default: BRIDGE.mgmt beside the OVSDB socket)")
    add("--bridge", default="br-int", help="the integration bridge (default: %(default)s)")
    add(
        "--datapath", choices=["system", "netdev"], default="system", help="kernel or user space (default: %(default)s)"
    )
    add(
        "--run-dir",
        type=Path,
        default=Path("/run/ovsnet"),
        help="for the socket and the pid file (default: %(default)s)",
    )
    add("--state-dir", type=Path, default=Path("/var/lib/ovsnet"), help="what was told, kept (default: %(default)s)")
    add("--audit-interval", type=float, default=30.0, metavar="SECONDS", help="between audits (default: %(default)s)")
    add(
        "--boot-policy",
        choices=["hold", "open"],
        default="hold",
        help="after a boot, ports stay down until their placement is confirmed (hold), or for --boot-grace at most",
    )
    add("--boot-grace", type=float, default=60.0, metavar="SECONDS", help="(default: %(default)s)")
    add("--boot-id-file", type=Path, default=BOOT_ID_FILE, help="says which boot this is (default: %(default)s)")
    add("--log-json", action="store_true", help="log one JSON object a line")
    add("--version", action="version", version=f"ovsnet-agent {VERSION}")
    return parser


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
        audit_every=options.audit_interval,
        boot_id_file=options.boot_id_file,
        boot_policy=options.boot_policy,
        boot_grace=options.boot_grace,
    )


def run(config: Config, run_dir: Path) -> int:
    """Run an agent to its end; returns the process's exit status. Raises UserError."""
    ended = threading.Event()
    gc.disable()  # nothing that is made at the start is garbage, and looking for some costs a third of the time

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_pid_file(run_dir))
        listener = stack.enter_context(_listen(run_dir / "agent.sock"))
        agent = Agent(config).start()
        stack.callback(agent.stop)
        _head_start(agent, ended)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        gc.enable()
        if agent.refusal is not None:
            raise agent.refusal
        if not ended.is_set():
            _serve(agent, listener)
    log.info("ended; the flows stay in the switch")
    return 0


def _head_start(agent: Agent, ended: threading.Event) -> None:
    """Let the first reconciliation be done, or fail, before anything else takes the interpreter's time."""
    start = time.monotonic()
    while time.monotonic() - start < HEAD_START and not ended.wait(0.005):
        if agent.reconciler.status.synced or agent.refusal is not None:
            return


def _serve(agent: Agent, listener: socket.socket) -> None:
    """Serve the API until a signal ends it."""
    import uvicorn

    from ovsnet.agent.api import create_app

    server = uvicorn.Server(
        uvicorn.Config(
            create_app(agent),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    _notify_ready()
    log.info("serving the API on %s", listener.getsockname())
    server.run(sockets=[listener])


@contextlib.contextmanager
def _pid_file(run_dir: Path):  # type: ignore[no-untyped-def]
    """Hold ``run_dir`` for this process, with its pid in ``agent.pid``. Raises UserError."""
    path = run_dir / "agent.pid"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise UserError(f"run directory {run_dir}: {exc.strerror}. Give a writable one with --run-dir") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another agent runs in {run_dir}. End it, or give another with --run-dir") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _listen(path: Path):  # type: ignore[no-untyped-def]
    """A listening unix socket at ``path``, open to its owner and group; a stale one is replaced. Raises UserError."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise UserError(
            f"{path} is longer than {MAX_SOCKET_PATH} bytes, too long for a socket. Give a shorter --run-dir"
        )
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o777 & ~SOCKET_MODE)
        try:
            listener.bind(os.fspath(path))
        except OSError as exc:
            raise UserError(f"cannot listen on {path}: {exc.strerror}. Give another --run-dir") from None
        finally:
            os.umask(before)
        listener.listen(128)
        listener.setblocking(False)
        yield listener
        path.unlink(missing_ok=True)


def _notify_ready() -> None:
    """Tell systemd, if it asked (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, contextlib.suppress(OSError):
            notify.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)


def _log_to_stderr(*, json: bool) -> None:
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    handler.setFormatter(_JsonFormatter() if json else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


if __name__ == "__main__":
    main()
