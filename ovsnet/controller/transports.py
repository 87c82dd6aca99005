"""The controller's options for telling hosts. A transport's modules are loaded when it is used."""

from __future__ import annotations

import argparse
import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from ovsnet.controller.api.service import Service
from ovsnet.controller.dissemination import Dissemination
from ovsnet.controller.ingest import Ingest, clients_of
from ovsnet.controller.intents import port_of
from ovsnet.controller.requests import PutObject, Request
from ovsnet.controller.truth import Truth
from ovsnet.errors import UserError, needing
from ovsnet.tls import client_context
from ovsnet.transport.feed import Transport
from ovsnet.transport.moves import activate
from ovsnet.transport.subjects import PREFIX


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the controller's."""
    add = parser.add_argument_group("telling hosts by their APIs").add_argument
    add(
        "--direct", action="store_true", help="call the agents' APIs; agents need --listen, or a socket on this machine"
    )
    add("--agent-cert", type=Path, metavar="FILE", help="the certificate to call them with, PEM")
    add("--agent-key", type=Path, metavar="FILE", help="its key, PEM")
    add("--agent-ca", type=Path, metavar="FILE", help="whose certificates the agents have")
    add = parser.add_argument_group("telling hosts over a bus").add_argument
    add("--nats", metavar="URL[,URL]", help="publish on this NATS bus, such as nats://10.0.0.1:4222")
    add("--nats-cert", type=Path, metavar="FILE", help="the controller's certificate for it, PEM")
    add("--nats-key", type=Path, metavar="FILE", help="its key, PEM")
    add("--nats-ca", type=Path, metavar="FILE", help="whose certificates the servers have")
    add(
        "--ingest",
        action="append",
        default=[],
        metavar="CLIENT[=TENANT,...]",
        help="let this client of the bus write, all VPCs or those of some tenants; may be given several times",
    )
    add("--nats-prefix", default=PREFIX, metavar="WORD", help="the first word of its subjects (default: %(default)s)")


def check_options(options: argparse.Namespace) -> None:
    """Raises UserError for options that do not fit together."""
    if clients_of(options.ingest) and not options.nats:
        raise UserError("--ingest is for a bus. Give --nats URL too")
    for word, wanted, needs in (("agent", options.direct, "--direct"), ("nats", options.nats, "--nats URL")):
        files = [getattr(options, f"{word}_{one}") for one in ("cert", "key", "ca")]
        if any(files) and not wanted:
            raise UserError(f"--{word}-cert, --{word}-key and --{word}-ca are for {needs}. Give that too")
        if any(files) and not all(files):
            raise UserError(f"the certificates are not complete. Give --{word}-cert, --{word}-key and --{word}-ca")


def disseminate(service: Service, options: argparse.Namespace) -> Callable[[], None]:
    """Tell hosts from now on, in the ways that the options name; returns what ends it. Raises UserError."""
    feed = Dissemination(service.core, service.status, _activation(service))
    transports: list[Transport] = []
    ends: list[Callable[[], None]] = []
    if options.direct:
        transport, end = _direct(feed, options)
        transports.append(transport)
        ends.append(end)
    if options.nats:
        transport, end = _bus(feed, options)
        transports.append(transport)
        ends.append(end)
    feed.start(transports)
    service.faults = lambda: tuple(fault for one in transports for fault in one.faults())
    service.told = lambda: {name: count for one in transports for name, count in one.statistics().items()}

    def stop() -> None:
        feed.stop()
        for end in ends:
            end()

    return stop


def _activation(service: Service) -> Callable[[str, str, str], None]:
    """What makes a move a fact once the workload has shown itself at its target."""

    def arrived(vpc: str, port: str, host: str) -> None:
        def build(truth: Truth) -> Request:
            held = port_of(truth, vpc, port)
            state = truth.vpcs[vpc].live
            change = activate(state, port, None) if held.moving_to == host else None
            edits = () if change is None else (PutObject(vpc, "ports", port, change.ports[port], placement=True),)
            return Request(edits, service.core.name, service.core.name, f"port {vpc}/{port} has arrived on {host}")

        service.core.transact(build)

    return arrived


def _direct(feed: Dissemination, options: argparse.Namespace) -> tuple[Transport, Callable[[], None]]:
    """Links to the agents, on an event loop of their own."""
    from ovsnet.transport.direct import Direct

    tls = None
    if options.agent_cert:
        tls = client_context(options.agent_ca, options.agent_cert, options.agent_key)
    direct = Direct(feed, tls)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="direct", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(direct.start(), loop).result()

    def stop() -> None:
        asyncio.run_coroutine_threadsafe(direct.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    return direct, stop


def _bus(feed: Dissemination, options: argparse.Namespace) -> tuple[Transport, Callable[[], None]]:
    """A publisher on the bus."""
    with needing("bus"):
        from ovsnet.transport.bus import BusOptions
        from ovsnet.transport.publisher import Publisher

    servers = tuple(filter(None, options.nats.split(",")))
    if not servers:
        raise UserError("--nats names no server. Give a URL such as nats://10.0.0.1:4222")
    files = (options.nats_cert, options.nats_key, options.nats_ca)
    publisher = Publisher(
        feed,
        BusOptions(servers, feed.source, *files),
        feed.source,
        prefix=options.nats_prefix,
        ingest=Ingest(feed.core, clients_of(options.ingest)),
    )
    return publisher.start(), publisher.stop
