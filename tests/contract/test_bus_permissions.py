"""What each certificate may do on the bus, asked of a real nats-server with the generated configuration."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from pathlib import Path

import nats.errors
import pytest

from ovsnet.errors import UserError
from ovsnet.pki.authority import Directory, Request
from ovsnet.pki.names import Authority, Kind
from ovsnet.transport.subjects import Subjects, inbox_prefix
from tests.contract.bus_kit import HERE, YEAR, Bus, flush, make_directory, now
from tests.pki_kit import client_context

SUBJECTS = (
    *(
        f"ovsnet.host.{host}.{way}.{rest}"
        for host in ("hv1", "hv2")
        for way in ("in", "out")
        for rest in ("vpcs", "a.b")
    ),
    *("ovsnet.host.hv1", "ovsnet.host.hv1.in", "ovsnet.host.hv1.out", "ovsnet.host.hv10.in.vpcs"),
    *("ovsnet.ingest.orch", "ovsnet.ingest.billing", "ovsnet.ingest.hv1", "ovsnet.ingest.orch.x"),
    *("_INBOX.abc.1", "_INBOX_orch.abc.1", "_INBOX_billing.abc.1", "_INBOX_hv1.abc", "_INBOX_controller.abc"),
    *("$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.INFO", "$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.ACK.x"),
    *("$KV.b.k", "_R_.abc", "anything", "ovsnet.vpc.shop"),
)
WILDCARDS = (
    *(">", "*", "*.>", "ovsnet.>", "ovsnet.*.>", "ovsnet.host.>", "ovsnet.host.*.in.>", "ovsnet.host.*.out.>"),
    *("ovsnet.host.*.in.vpcs", "ovsnet.host.hv1.>", "ovsnet.host.hv1.*.vpcs", "ovsnet.host.hv2.>"),
    *("ovsnet.host.hv1.in.>", "ovsnet.host.hv2.in.>", "ovsnet.host.hv1.out.>", "ovsnet.ingest.>", "ovsnet.ingest.*"),
    *(
        "_INBOX.>",
        "_INBOX_orch.>",
        "_INBOX_billing.>",
        "$SYS.>",
        "$SYS.ACCOUNT.>",
        "$JS.>",
        "$JS.API.>",
        "*.host.hv2.in.>",
    ),
)
IN1, IN2, OUT1, OUT2 = (
    {f"ovsnet.host.{host}.{way}.vpcs", f"ovsnet.host.{host}.{way}.a.b"}
    for way in ("in", "out")
    for host in ("hv1", "hv2")
)
MAY = {  # who: what it may publish to, and subscribe to, of the above
    "hosts/hv1": (OUT1, IN1 | {"ovsnet.host.hv1.in.>"}),
    "hosts/hv2": (OUT2, IN2 | {"ovsnet.host.hv2.in.>"}),
    "callers/controller": (
        IN1 | IN2 | {"ovsnet.host.hv10.in.vpcs", "_INBOX_orch.abc.1", "_INBOX_billing.abc.1"},
        OUT1
        | OUT2
        | {f"ovsnet.ingest.{one}" for one in ("orch", "billing", "hv1", "orch.x", ">", "*")}
        | {"ovsnet.host.*.out.>", "ovsnet.host.hv1.out.>"},
    ),
    "callers/orch": ({"ovsnet.ingest.orch"}, {"_INBOX_orch.abc.1", "_INBOX_orch.>"}),
    "clients/billing": ({"ovsnet.ingest.billing"}, {"_INBOX_billing.abc.1", "_INBOX_billing.>"}),
}


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path / "pki")


@pytest.fixture
def bus(directory: Directory, tmp_path: Path) -> Iterator[Bus]:
    server = Bus(directory, tmp_path)
    try:
        yield server.start()
    finally:
        server.close()


async def attempts(bus: Bus, folder: str) -> tuple[set[str], set[str]]:
    """Of all subjects, those that a certificate may publish to, and with the wildcards those it may subscribe to."""
    peer = await bus.connect(folder)
    await peer.send(*SUBJECTS)
    await peer.listen(*SUBJECTS, *WILDCARDS)
    await flush(peer.client)
    refused = peer.refused()
    await peer.client.close()
    publish = {one for one in SUBJECTS if ("publish", one.lower()) not in refused}
    return publish, {one for one in (*SUBJECTS, *WILDCARDS) if ("subscription", one.lower()) not in refused}


@pytest.mark.parametrize("folder", MAY)
def test_each_certificate_may_do_this_and_nothing_else(bus: Bus, folder: str) -> None:
    assert asyncio.run(attempts(bus, folder)) == MAY[folder]


async def leaks(bus: Bus) -> list[str]:
    """What reaches the holder of hv1's certificate that is not for it, and what it makes others receive."""
    thief = await bus.connect("hosts/hv1", user="ovsnet:host:hv2", password="")  # a name it has no certificate for
    victims = {one: await bus.connect(one) for one in ("hosts/hv2", "callers/controller", "clients/billing")}
    hv2, controller, billing = victims.values()
    await hv2.listen("ovsnet.host.hv2.in.>")
    await controller.listen("ovsnet.host.*.out.>", "ovsnet.ingest.>")
    await billing.listen("_INBOX_billing.>")
    await thief.listen(*SUBJECTS, *WILDCARDS)
    await thief.send(*SUBJECTS, data=b"forged")
    await controller.send("ovsnet.host.hv1.in.vpcs", "ovsnet.host.hv2.in.vpcs", "_INBOX_billing.abc.1", data=b"true")
    await hv2.send("ovsnet.host.hv2.out.vpcs", data=b"true")
    await billing.send("ovsnet.ingest.billing", data=b"true")
    stolen = await thief.heard()
    found = {name: await peer.heard() for name, peer in victims.items()}
    for peer in (thief, *victims.values()):
        await peer.client.close()
    assert [(subject, data) for subject, data in stolen if subject == "ovsnet.host.hv1.in.vpcs"], "control: its own"
    for name, heard in found.items():
        assert any(data == b"true" for _, data in heard), f"control: {name} hears what is for it"
    return [f"read {subject}" for subject, _ in stolen if not subject.startswith("ovsnet.host.hv1.in.")] + [
        f"wrote {subject} to {name}"
        for name, heard in found.items()
        for subject, data in heard
        if data == b"forged" and not subject.startswith("ovsnet.host.hv1.out.")
    ]


def test_a_stolen_host_certificate_reads_and_writes_nothing_of_others(bus: Bus) -> None:
    assert asyncio.run(leaks(bus)) == []


HV1 = r"(ovsnet:host:hv1.*?publish: \{allow: \[)(.*?)(\]\}, subscribe: \{allow: \[)(.*?)(\])"
WEAKER: dict[str, tuple[str, Callable[[str], str]]] = {
    "a host reads all hosts": ("read ", lambda text: re.sub(HV1, r'\1\2\3"ovsnet.host.*.in.>"\5', text)),
    "a host reads inboxes": ("read ", lambda text: re.sub(HV1, r'\1\2\3\4, "_INBOX_billing.>"\5', text)),
    "a host writes to all hosts": ("wrote ", lambda text: re.sub(HV1, r'\1\2, "ovsnet.host.*.in.>"\3\4\5', text)),
    "a host reports for all": ("wrote ", lambda text: re.sub(HV1, r'\1"ovsnet.host.*.out.>"\3\4\5', text)),
    "a host may hand in": ("wrote ", lambda text: re.sub(HV1, r'\1\2, "ovsnet.ingest.*"\3\4\5', text)),
    "no allow list": ("read ", lambda text: re.sub(HV1 + r"\}", r"\1\2]}", text)),
}


@pytest.mark.parametrize("weaker", WEAKER)
def test_a_weaker_configuration_is_seen_to_leak(directory: Directory, tmp_path: Path, weaker: str) -> None:
    server = Bus(directory, tmp_path)
    text = server.configuration.read_text()
    expected, weaken = WEAKER[weaker]
    server.configuration.write_text(weaken(text))
    assert server.configuration.read_text() != text
    try:
        found = asyncio.run(leaks(server.start()))
    finally:
        server.close()
    assert any(one.startswith(expected) for one in found), found


def test_a_host_has_no_requests(bus: Bus) -> None:
    async def scene() -> None:
        host = await bus.connect("hosts/hv1", inbox_prefix="_INBOX_hv1")
        with pytest.raises(nats.errors.Error):
            await host.client.request("ovsnet.host.hv1.out.question", b"", timeout=0.3)
        assert any(way == "subscription" for way, _ in host.refused())
        await host.client.close()

    asyncio.run(scene())


def test_a_client_is_answered_in_its_own_inbox(bus: Bus) -> None:
    async def scene() -> None:
        controller, eavesdropper = await bus.connect("callers/controller"), await bus.connect("callers/orch")
        client = await bus.connect("clients/billing", inbox_prefix=inbox_prefix("billing"))
        await eavesdropper.listen("_INBOX_billing.>", ">")

        async def answer(message: nats.aio.msg.Msg) -> None:
            assert Subjects().answerable(message.subject, message.reply)
            await message.respond(b"revision 7")

        await controller.client.subscribe("ovsnet.ingest.>", cb=answer)
        await flush(controller.client)
        assert (await client.client.request("ovsnet.ingest.billing", b"{}", timeout=5)).data == b"revision 7"
        assert await eavesdropper.heard() == []

    asyncio.run(scene())


def test_the_reply_subject_is_the_sender_s_choice(bus: Bus) -> None:
    """Why the controller has to ask ``answerable``: the server carries a reply subject that the sender may not use."""

    async def scene() -> None:
        controller, client = await bus.connect("callers/controller"), await bus.connect("clients/billing")
        subscription = await controller.client.subscribe("ovsnet.ingest.>")
        await flush(controller.client)
        await client.send("ovsnet.ingest.billing", reply="ovsnet.host.hv1.in.vpcs")
        message = await subscription.next_msg(timeout=5)
        assert message.reply == "ovsnet.host.hv1.in.vpcs"
        assert not Subjects().answerable(message.subject, message.reply)

    asyncio.run(scene())


def test_a_new_host_gets_in_by_reload_and_nobody_is_dropped(bus: Bus, directory: Directory) -> None:
    async def scene() -> None:
        hv1, controller = await bus.connect("hosts/hv1"), await bus.connect("callers/controller")
        await hv1.listen("ovsnet.host.hv1.in.>")
        await controller.listen("ovsnet.host.*.out.>")
        directory.issue([Request(Kind.HOST, "hv3"), Request(Kind.CLIENT, "shop")], now(), YEAR)
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await bus.connect("hosts/hv3")
        bus.reload()
        hv3 = await bus.connect("hosts/hv3")
        await hv3.listen("ovsnet.host.hv3.in.>")
        await controller.send("ovsnet.host.hv1.in.x", "ovsnet.host.hv3.in.x", "_INBOX_shop.x")
        await hv1.send("ovsnet.host.hv1.out.x")
        assert [subject for subject, _ in await hv1.heard()] == ["ovsnet.host.hv1.in.x"]
        assert [subject for subject, _ in await hv3.heard()] == ["ovsnet.host.hv3.in.x"]
        assert [subject for subject, _ in await controller.heard()] == ["ovsnet.host.hv1.out.x"]
        assert not hv1.closed.is_set() and not controller.closed.is_set()
        assert hv1.errors == controller.errors == []  # the controller's connection has learned the new inbox, too

    asyncio.run(scene())


def test_a_revoked_host_is_cut_off_and_its_successor_is_not(bus: Bus, directory: Directory) -> None:
    async def scene() -> None:
        stolen = bus.directory.root.parent / "stolen"
        shutil.copytree(directory.root / "hosts/hv1", stolen)
        victim, hv2 = await bus.connect("", client_context(stolen, Authority.CALLERS)), await bus.connect("hosts/hv2")
        await victim.listen("ovsnet.host.hv1.in.>")
        await hv2.listen("ovsnet.host.hv2.in.>")
        directory.revoke(Kind.HOST, "hv1", now())
        bus.reload()
        await asyncio.wait_for(victim.closed.wait(), 5)
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await bus.connect("", client_context(stolen, Authority.CALLERS))
        directory.issue([Request(Kind.HOST, "hv1")], now(), YEAR)
        bus.reload()
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await bus.connect("", client_context(stolen, Authority.CALLERS))
        successor, controller = await bus.connect("hosts/hv1"), await bus.connect("callers/controller")
        await successor.listen("ovsnet.host.hv1.in.>")
        await controller.send("ovsnet.host.hv1.in.x", "ovsnet.host.hv2.in.x")
        assert await successor.heard() and await hv2.heard()

    asyncio.run(scene())


def test_a_permission_taken_away_ends_the_subscription_on_a_live_connection(bus: Bus) -> None:
    async def scene() -> None:
        publisher, hv1 = await bus.connect("callers/controller"), await bus.connect("hosts/hv1")
        await publisher.listen("ovsnet.host.*.out.>")
        text = bus.configuration.read_text()
        bus.configuration.write_text(
            text.replace('subscribe: {allow: ["ovsnet.host.*.out.>", ', "subscribe: {allow: [")
        )
        bus.signal_reload()
        await hv1.send("ovsnet.host.hv1.out.x")
        assert await publisher.heard() == []
        assert ("subscription", "ovsnet.host.*.out.>") in publisher.refused()
        assert not publisher.closed.is_set()

    asyncio.run(scene())


REFUSALS: dict[str, Callable[[Directory, Path], Path]] = {}


def refusal(make: Callable[[Directory, Path], Path]) -> Callable[[Directory, Path], Path]:
    REFUSALS[make.__name__] = make
    return make


@refusal
def of_other_authorities(directory: Directory, scratch: Path) -> Path:
    return make_directory(scratch / "other").root / "hosts/hv1"


@refusal
def expired(directory: Directory, scratch: Path) -> Path:
    directory.issue([Request(Kind.HOST, "hv1")], now() - 2 * YEAR, timedelta(days=30), renew=True)
    return directory.root / "hosts/hv1"


@refusal
def of_a_server(directory: Directory, scratch: Path) -> Path:
    return directory.root / "servers/nats"


@pytest.mark.parametrize("make", REFUSALS.values(), ids=list(REFUSALS))
def test_no_connection_for(bus: Bus, directory: Directory, tmp_path: Path, make: Callable[..., Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(directory.root / "hosts/hv2/callers-ca.pem")
    asyncio.run(closes(bus.connect("", context)))  # no certificate at all
    folder = make(directory, tmp_path)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    asyncio.run(closes(bus.connect("", context)))


async def closes(connecting: Coroutine[None, None, object]) -> None:
    with pytest.raises((nats.errors.Error, OSError, asyncio.TimeoutError)):
        await connecting


def test_nobody_gets_in_where_nobody_is_issued(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "pki")
    directory.make_authorities(now(), YEAR)
    directory.issue([Request(Kind.SERVER, "nats", HERE), Request(Kind.HOST, "hv1")], now(), YEAR)
    shutil.move(directory.root / "hosts/hv1", tmp_path / "hv1")
    server = Bus(directory, tmp_path)
    try:
        server.start()
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            asyncio.run(server.connect("", client_context(tmp_path / "hv1", Authority.CALLERS)))
    finally:
        server.close()


def test_a_name_is_a_caller_s_or_a_client_s(directory: Directory) -> None:
    with pytest.raises(UserError, match="billing would be the name of a client and of a caller"):
        directory.issue([Request(Kind.CALLER, "billing")], now(), YEAR)
