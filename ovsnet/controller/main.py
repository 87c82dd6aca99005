"""``ovsnet-controller``: the controller's process, in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ovsnet._version import VERSION
from ovsnet.controller.api.service import Service
from ovsnet.controller.core import Core
from ovsnet.controller.errors import StoreError
from ovsnet.controller.store import Store
from ovsnet.controller.transports import add_options, check_options, disseminate
from ovsnet.errors import UserError
from ovsnet.http.service import Listener, Tls, log_to_stderr, notify_ready, pid_file, tcp_listener, unix_listener
from ovsnet.model.checks import NAME

log = logging.getLogger("ovsnet.controller")

KEEPING = 2.0
"""Seconds between two rounds of housekeeping."""
PRUNING = 300
"""Rounds between two in which old history is forgotten."""
GC_THRESHOLD = (50_000, 20, 50)
"""The collector's thresholds: 100,000 ports are a million objects, and hardly any cycles."""

EPILOG = """\
The API is HTTP on RUN_DIR/controller.sock and, with --listen, by TLS on TCP.

Example: ovsnet-controller --direct --store postgresql+psycopg://ovsnet@db/ovsnet"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the controller until SIGTERM or SIGINT; exits with 2 or 3 and one line when it cannot."""
    try:
        options = parser().parse_args(argv)
        log_to_stderr(json=options.log_json)
        run(options)
    except UserError as exc:
        print(f"ovsnet-controller: {exc}", file=sys.stderr)  # noqa: T201
        sys.exit(exc.exit_code)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="ovsnet-controller",
        description="Holds what is declared of all virtual networks, and tells hosts what concerns them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add(
        "--store",
        default="sqlite:////var/lib/ovsnet-controller/controller.db",
        metavar="URL",
        help="sqlite:///PATH or postgresql+psycopg://... (default: %(default)s)",
    )
    add("--name", default="controller", help="the owner of what hosts are told (default: %(default)s)")
    add(
        "--run-dir",
        type=Path,
        default=Path("/run/ovsnet-controller"),
        help="for the socket and the pid file (default: %(default)s)",
    )
    add("--listen", metavar="ADDRESS:PORT", help="serve the API by TLS there too")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate for --listen, PEM")
    add("--tls-key", type=Path, metavar="FILE", help="its key, PEM")
    add("--tokens", type=Path, metavar="FILE", help="who may call by TLS: what 'ovsnet pki token' writes")
    add_options(found)
    add("--log-json", action="store_true", help="log one JSON object a line")
    add("--version", action="version", version=f"ovsnet-controller {VERSION}")
    return found


def run(options: argparse.Namespace) -> None:
    """Run a controller to its end. Raises UserError."""
    if not NAME.fullmatch(options.name):
        raise UserError(f"--name {options.name}: no name. Give lower-case letters, digits, '_' and '-'")
    check_options(options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(pid_file(options.run_dir, "controller"))
        gc.disable()
        core = Core(Store(options.store), options.name)
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        gc.enable()
        stack.callback(core.close)
        service = Service(core)
        ended = threading.Event()
        keeper = threading.Thread(target=_keep, args=(core, ended), name="housekeeping", daemon=True)
        keeper.start()
        stack.callback(keeper.join)
        stack.callback(ended.set)
        stack.callback(disseminate(service, options))
        _serve(service, stack, options)
    log.info("ended; hosts go on with what they were told")


def _listeners(stack: contextlib.ExitStack, options: argparse.Namespace) -> list[Listener]:
    found = [stack.enter_context(unix_listener(options.run_dir / "controller.sock"))]
    if options.listen is not None:
        if options.tls_cert is None or options.tls_key is None:
            raise UserError("--listen needs --tls-cert and --tls-key: tokens are not sent in the clear")
        if options.tokens is None:
            raise UserError("--listen needs --tokens: without it nobody could call. Make one with 'ovsnet pki token'")
        tls = Tls(options.tls_cert, options.tls_key)
        found.append(stack.enter_context(tcp_listener(options.listen, tls)))
    return found


def _serve(service: Service, stack: contextlib.ExitStack, options: argparse.Namespace) -> None:
    """Serve the API until a signal ends it."""
    from ovsnet.controller.api.app import create_app
    from ovsnet.http.serve import serve
    from ovsnet.pki.tokens import TokenFile

    listeners = _listeners(stack, options)
    app = create_app(service, None if options.tokens is None else TokenFile(options.tokens))
    notify_ready()
    for listener in listeners:
        log.info("serving the API on %s", listener.place)
    serve(app, listeners, on_stop=service.events.close)


def _keep(core: Core, ended: threading.Event) -> None:
    """Housekeeping, until the end."""
    rounds = 0
    while not ended.wait(KEEPING):
        rounds += 1
        try:
            core.housekeeping(prune=rounds % PRUNING == 0)
        except StoreError as exc:
            log.warning("housekeeping: %s", exc)


if __name__ == "__main__":
    main()
