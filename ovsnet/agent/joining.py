"""The agent's options for the bus. The bus's modules are loaded when they are needed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ovsnet.errors import UserError, needing
from ovsnet.transport.subjects import PREFIX

if TYPE_CHECKING:
    from ovsnet.agent.agent import Agent


@dataclass(frozen=True)
class BusConfig:
    """Which bus an agent joins, as who, and whose VPCs it follows there ("": the first that announces itself)."""

    servers: tuple[str, ...]
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    source: str = ""
    prefix: str = PREFIX


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the agent's."""
    add = parser.add_argument_group("the bus").add_argument
    add("--nats", metavar="URL[,URL]", help="join this NATS bus, such as nats://10.0.0.1:4222")
    add("--nats-cert", type=Path, metavar="FILE", help="this host's certificate for it, PEM")
    add("--nats-key", type=Path, metavar="FILE", help="the certificate's key")
    add("--nats-ca", type=Path, metavar="FILE", help="whose certificates the servers have")
    add("--nats-prefix", default=PREFIX, metavar="WORD", help="the first word of its subjects (default: %(default)s)")
    add("--source", default="", metavar="NAME", help="whose VPCs to follow (default: who announces itself first)")


def bus_of(options: argparse.Namespace) -> BusConfig | None:
    """What the options say, ``None`` for no bus. Raises UserError."""
    files = (options.nats_cert, options.nats_key, options.nats_ca)
    if options.nats is None:
        if any(files):
            raise UserError("--nats-cert, --nats-key and --nats-ca are for a bus. Give --nats URL too")
        return None
    if any(files) and not all(files):
        raise UserError("the bus's certificates are not complete. Give --nats-cert, --nats-key and --nats-ca, or none")
    servers = tuple(filter(None, options.nats.split(",")))
    if not servers:
        raise UserError("--nats names no server. Give a URL such as nats://10.0.0.1:4222")
    return BusConfig(servers, *files, options.source, options.nats_prefix)


def join(agent: Agent, config: BusConfig) -> Callable[[], None]:
    """Follow the bus from now on; returns what ends it. Raises UserError when the certificates cannot be used."""
    with needing("bus"):
        from ovsnet.agent.followed import FollowedAgent
        from ovsnet.agent.subscriber import Subscriber
        from ovsnet.transport.bus import BusOptions

    options = BusOptions(config.servers, agent.config.host, config.cert, config.key, config.ca)
    subscriber = Subscriber(FollowedAgent(agent), options, source=config.source, prefix=config.prefix)
    agent.bus = subscriber
    return subscriber.start().stop
