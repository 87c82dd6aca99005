"""The switch process itself: runs the app, and does what its parent asks for, as long as that is there."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import logging
import os
import queue
import signal
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from ovsnet.openflow.api import Timing
from ovsnet.openflow.channel import Channel
from ovsnet.openflow.errors import SwitchError
from ovsnet.openflow.outside import Sent
from ovsnet.responders.lease import Lease

if TYPE_CHECKING:
    from ovsnet.openflow.app import OvsnetApp

LOG = logging.getLogger(__name__)

_Parts = queue.SimpleQueue[tuple[bool | None, bytearray]]
"""The parts of a payload, and at the end whether that was all of it."""


_IN_ORDER = frozenset({"notices", "leases", "inject"})
"""What is done at once, so that it holds for whoever asks for a barrier after it."""


def _arriving(parts: _Parts) -> Iterator[bytearray]:
    """The parts of a payload as they come. Raises SwitchError when the parent gives up."""
    while True:
        whole, part = parts.get()
        if whole is None:
            yield part
        elif whole:
            return
        else:
            raise SwitchError("the bundle was given up while it was made")


def _answer(app: OvsnetApp, channel: Channel, what: str, arguments: list[Any], parts: _Parts) -> tuple[Any, bytes]:
    """Do what the parent asks; the value and the bytes to answer with."""
    if what == "bundle":
        bundle_id, first_xid, count, timeout = arguments
        result = app.send_bundle(bundle_id, first_xid, _arriving(parts), count, timeout)
        return [result.committed, [[r.index, r.type, r.code, r.data] for r in result.refusals]], b""
    if what == "dump":
        return None, b"".join(app.dump_flows(*arguments))
    if what == "counters":
        return app.counters(), b""
    if what == "multipart":
        return app.multipart(*arguments), b""
    if what == "order":
        app.order(*arguments)
    if what == "notices":
        app.on_notice(lambda notice: _tell(channel, "notice", notice))
    if what == "leases":
        app.tell(dict(msgspec.convert(arguments[0], list[tuple[int, Lease | None]])))
    if what == "inject":
        app.inject(msgspec.convert(arguments[0], list[Sent]))
    if what == "barrier":
        app.barrier(*arguments)
    elif what == "flush":
        app.flush_zones(*arguments)
    elif what == "enforced":
        app.enforced(*arguments)
    return None, b""


def _handle(app: OvsnetApp, channel: Channel, head: list[Any], parts: _Parts) -> None:
    what, number, *arguments = head
    try:
        value, data = _answer(app, channel, what, arguments, parts)
        reply = ["done", number, value]
    except SwitchError as error:
        reply, data = ["failed", number, type(error).__name__, str(error)], b""
    except Exception as error:  # the parent waits for an answer to each request, so it gets one
        LOG.exception("%s failed", what)
        reply, data = ["failed", number, SwitchError.__name__, f"{what}: {error!r}"], b""
    with contextlib.suppress(OSError):  # the parent is gone, and the main thread ends us
        channel.write(reply, data)


def _tell(channel: Channel, *head: Any) -> None:
    with contextlib.suppress(OSError):  # the parent is gone, and reading tells us
        channel.write(list(head))


def serve(channel: Channel, target: str, timing: Timing) -> None:
    """Run the app for ``target`` and answer the parent until it is gone."""
    from ovsnet.openflow.app import start_app

    app = start_app(target, timing=timing)

    app.on_trouble(lambda reason: _tell(channel, "trouble", reason))
    app.on_connect(lambda _generation: _tell(channel, "up"))
    app.on_disconnect(lambda reason: _tell(channel, "down", reason))
    arriving: dict[int, _Parts] = {}
    with concurrent.futures.ThreadPoolExecutor(4, "request") as pool:
        while (frame := channel.read()) is not None:
            head, payload = frame
            what, number, *rest = head
            if what == "part":
                whole: bool | None = rest[0]
                (arriving[number] if whole is None else arriving.pop(number)).put((whole, payload))
                continue
            parts = _Parts()
            if what == "bundle":
                arriving[number] = parts
            if what in _IN_ORDER:
                _handle(app, channel, head, parts)
            else:
                pool.submit(_handle, app, channel, head, parts)
        # Whatever still runs here serves a parent that is gone; the switch discards an open bundle with its connection.
        os._exit(0)


def main(argv: list[str] | None = None) -> None:
    """The child's entry point; not for users."""
    parser = argparse.ArgumentParser(prog="ovsnet.openflow.child")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--timing", required=True)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; its end is ours
    sock = socket.socket(fileno=options.fd)
    serve(Channel(sock), options.target, msgspec.json.decode(options.timing, type=Timing))


if __name__ == "__main__":
    main()
