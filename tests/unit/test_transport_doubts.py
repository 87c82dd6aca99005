"""When a host's reports say that somebody else has told it something, and when they are only late."""

from __future__ import annotations

from ovsnet.transport.doubts import GRACE, Doubts
from ovsnet.transport.messages import Item, VpcReport
from ovsnet.transport.operations import withdraw_item


def told(**revisions: int) -> Doubts:
    """Of a host that holds what it was told."""
    doubts = Doubts()
    doubts.agreed(revisions, 0.0)
    doubts.report({vpc: VpcReport(revision) for vpc, revision in revisions.items()}, 1.0, full=True)
    assert doubts.due is None
    return doubts


def put(vpc: str) -> tuple[Item, ...]:
    return (Item(op="put", vpc=vpc),)


def test_a_revision_that_it_was_not_told_is_doubted() -> None:
    for said in (VpcReport(7), VpcReport(4), None):
        doubts = told(red=5, blue=3)
        doubts.report({"red": said}, 10.0, full=False)
        assert doubts.due == 10.0 + GRACE


def test_what_a_full_report_leaves_out_is_doubted() -> None:
    doubts = told(red=5, blue=3)
    doubts.report({"red": VpcReport(5)}, 10.0, full=True)
    assert doubts.due == 10.0 + GRACE


def test_a_vpc_of_somebody_else_is_looked_at_once() -> None:
    doubts = told(red=5)
    doubts.report({"other": VpcReport(1)}, 10.0, full=False)
    assert doubts.due == 10.0 + GRACE
    doubts.asking()
    doubts.agreed({"red": 5}, 11.0)
    doubts.report({"red": VpcReport(5), "other": VpcReport(1)}, 30.0, full=True)
    assert doubts.due is None
    doubts.report({"other": VpcReport(2)}, 31.0, full=False)
    assert doubts.due == 31.0 + GRACE


def test_a_report_that_comes_before_the_answer_or_late_is_none_to_doubt() -> None:
    doubts = told(red=5)
    doubts.report({"red": VpcReport(6)}, 10.0, full=False)
    doubts.tell(put("red"), {"red": 6}, 10.1)
    assert doubts.due is None, "the report was faster than the answer"
    doubts.tell(put("red"), {"red": 7}, 11.0)
    doubts.tell(put("red"), {"red": 8}, 11.1)
    doubts.report({"red": VpcReport(7)}, 11.2, full=False)
    assert doubts.due is not None
    doubts.report({"red": VpcReport(8)}, 11.3, full=False)
    assert doubts.due is None, "the last report was on its way"


def test_time_begins_anew_with_each_change_of_the_vpc() -> None:
    doubts = told(red=5)
    doubts.tell(put("red"), {"red": 6}, 10.0)
    doubts.report({"red": VpcReport(9)}, 10.1, full=False)
    doubts.tell(put("red"), {"red": 7}, 10.4)
    assert doubts.due == 10.4 + GRACE


def test_what_it_was_told_to_forget_may_be_gone() -> None:
    doubts = told(red=5)
    doubts.tell((withdraw_item("red", 6),), {"red": 6}, 10.0)
    doubts.report({"red": None}, 10.1, full=False)
    assert doubts.due is None
    assert doubts.told == {}


def test_meddling_during_a_look_is_not_forgotten() -> None:
    doubts = told(red=5)
    doubts.asking()
    doubts.report({"red": VpcReport(9)}, 10.0, full=False)
    doubts.agreed({"red": 5}, 10.1)
    assert doubts.due == 10.1 + GRACE
    doubts.asking()
    doubts.agreed({"red": 10}, 11.0)
    doubts.report({"red": VpcReport(10)}, 11.1, full=False)
    assert doubts.due is None
