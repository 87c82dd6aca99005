"""Where hosts stand: reports in, answers to those that wait out."""

from __future__ import annotations

import asyncio

from ovsnet.controller.dissemination import SILENT_AFTER
from ovsnet.controller.status import ON_ITS_WAY, UNHEARD, Contact, Status
from ovsnet.transport.messages import PROTOCOL, PortReport, ReportMessage, VpcReport
from ovsnet.transport.reports import FULL_EVERY


def report(
    host: str,
    serial: int,
    *,
    run: str = "r",
    full: bool = False,
    faults: tuple[str, ...] = (),
    **vpcs: VpcReport | None,
) -> ReportMessage:
    return ReportMessage(v=PROTOCOL, run=run, serial=serial, host=host, full=full, vpcs=vpcs, faults=faults)


WANTED = {"hv1": {"red": 5}, "hv2": {"red": 5, "blue": 2}, "hv3": {"red": 0}}


def test_a_waiter_is_released_by_the_last_host_and_by_no_other() -> None:
    async def scenario() -> None:
        status = Status()
        waiting = asyncio.ensure_future(status.await_enforced(WANTED, 5.0))
        await asyncio.sleep(0)
        status.reported(report("hv1", 1, full=True, red=VpcReport(5, 5)))
        status.reported(report("hv2", 1, full=True, red=VpcReport(5, 5), blue=VpcReport(2, 1)))
        status.reported(report("hv3", 1, full=True, red=VpcReport(4, 4)))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert status.late(WANTED) == {"hv2": ON_ITS_WAY, "hv3": "still holds the VPC"}
        status.reported(report("hv3", 2, red=None))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        status.reported(report("hv2", 2, blue=VpcReport(2, 2)))
        assert await asyncio.wait_for(waiting, 1) == {}
        assert await status.await_enforced(WANTED, 0.01) == {}

    asyncio.run(scenario())


def test_a_waiter_that_gives_up_hears_who_is_late_and_why() -> None:
    async def scenario() -> None:
        status = Status()
        status.reported(report("hv1", 1, full=True, red=VpcReport(5, 4, "the switch refuses a flow")))
        status.reachable("hv2", "connection refused")
        late = await status.await_enforced(WANTED, 0.01)
        assert late == {"hv1": "the switch refuses a flow", "hv2": "connection refused", "hv3": UNHEARD}
        status.reported(report("hv1", 2, faults=("no OVSDB connection",), red=VpcReport(5, 4)))
        assert status.late({"hv1": {"red": 5}}) == {"hv1": "no OVSDB connection"}

    asyncio.run(scenario())


def test_a_host_that_is_no_more_holds_nobody_up() -> None:
    async def scenario() -> None:
        status = Status()
        waiting = asyncio.ensure_future(status.await_enforced({"hv1": {"red": 5}}, 5.0))
        await asyncio.sleep(0)
        status.forget(["hv1"])
        assert await asyncio.wait_for(waiting, 1) == {}

    asyncio.run(scenario())


def test_reports_out_of_order_change_nothing_and_lost_ones_are_counted() -> None:
    status = Status()
    status.reported(report("hv1", 1, full=True, red=VpcReport(1, 1)))
    status.reported(report("hv1", 3, red=VpcReport(3, 3)))
    status.reported(report("hv1", 2, red=VpcReport(2, 2)))
    assert status.host("hv1").vpcs == {"red": VpcReport(3, 3)}
    assert status.host("hv1").lost == 1
    status.reported(report("hv1", 1, full=True))
    assert status.host("hv1").vpcs == {"red": VpcReport(3, 3)}, "a full one that was told before"
    status.reported(report("hv1", 1, run="another", full=True))
    assert status.host("hv1").vpcs == {}


def test_waiting_for_a_port() -> None:
    async def scenario() -> None:
        status = Status()
        assert not (await status.await_up("hv1", "red/a", 0.01)).up
        waiting = asyncio.ensure_future(status.await_up("hv1", "red/a", 5.0))
        await asyncio.sleep(0)
        down = PortReport(False, "not plugged")
        status.reported(ReportMessage(v=PROTOCOL, run="r", serial=1, host="hv1", ports={"red/a": down}))
        status.reported(
            ReportMessage(v=PROTOCOL, run="r", serial=1, host="hv2", full=True, ports={"red/a": PortReport(True)})
        )
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert await status.await_up("hv1", "red/a", 0.01) == down
        status.reported(ReportMessage(v=PROTOCOL, run="r", serial=2, host="hv1", ports={"red/a": PortReport(True)}))
        assert (await asyncio.wait_for(waiting, 1)).up

    asyncio.run(scenario())


def test_contact_is_told_when_it_changes() -> None:
    status, told = Status(), []
    status.on_contact = told.append
    status.reachable("hv1", "it is cold")
    status.reachable("hv1", "it is cold")
    status.reachable("hv1", "it says no", refused=True)
    status.reachable("hv1", "")
    status.reported(ReportMessage(v=1, run="r", serial=1, host="hv1", full=True))
    status.reported(ReportMessage(v=1, run="r", serial=1, host="hv2", full=True))
    assert told == [
        Contact("hv1", "lost", "it is cold"),
        Contact("hv1", "refused", "it says no"),
        Contact("hv1", "back"),
        Contact("hv2", "back"),
    ]


def test_a_host_without_news_is_not_called_silent() -> None:
    """A full report comes every half minute, a quarter more or less."""
    assert 1.25 * FULL_EVERY < SILENT_AFTER
