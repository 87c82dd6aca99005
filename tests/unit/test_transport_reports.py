from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovsnet.transport.messages import PortReport, VpcReport
from ovsnet.transport.reports import MAX_ENTRIES, Picture, Reporter, apply_report, difference

NAMES = st.sampled_from(["a", "b", "c"])
PICTURES = st.builds(
    Picture,
    vpcs=st.dictionaries(NAMES, st.builds(VpcReport, st.integers(1, 3), st.none() | st.integers(1, 3), NAMES)),
    ports=st.dictionaries(NAMES, st.builds(PortReport, st.booleans(), NAMES, st.booleans())),
    faults=st.lists(NAMES, max_size=2).map(tuple),
    misplaced=st.lists(NAMES, max_size=2).map(tuple),
)


@given(st.lists(PICTURES, min_size=1, max_size=6), st.data())
def test_deltas_add_up_and_a_full_one_mends(pictures: list[Picture], data: st.DataObject) -> None:
    reporter, seen, serial, lost = Reporter("hv1", "run"), Picture(), 0, False
    before = Picture()
    for picture in pictures:
        full = data.draw(st.booleans())
        messages = reporter.full(picture) if full else reporter.delta(difference(before, picture))
        before = picture
        assert full or len(messages) <= 1
        for message in messages:
            serial += 1
            assert message.serial == serial
            if data.draw(st.integers(0, 4)) == 0:
                lost = True
                continue
            seen = apply_report(seen, message)
            lost = lost and not message.full
        assert lost or seen == picture
    assert reporter.delta(difference(Picture(), pictures[-1])) == [], "what was said already is not said again"


def test_very_many_ports_take_several_messages() -> None:
    picture = Picture(
        vpcs={f"v{n}": VpcReport(n) for n in range(MAX_ENTRIES + 5)},
        ports={f"v/p{n}": PortReport(up=True) for n in range(MAX_ENTRIES)},
    )
    reporter, seen = Reporter("hv1", "run"), Picture()
    messages = reporter.full(picture)
    assert [message.full for message in messages] == [True, False, False]
    for message in messages:
        seen = apply_report(seen, message)
    assert seen == picture
    exact = Picture(ports={f"v/p{n}": PortReport(up=True) for n in range(MAX_ENTRIES)})
    assert [len(message.ports) for message in reporter.full(exact)] == [MAX_ENTRIES], "no empty message follows"
