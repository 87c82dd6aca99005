"""Every check of the declared pipeline, shown to refuse what it is there for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ovsnet.features import FEATURES, TEMPLATES
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.checks import PipelineError, check_pipeline
from ovsnet.pipeline.fields import NET, REGISTER_FIELDS, RegisterField
from ovsnet.pipeline.tables import TABLES, Table
from ovsnet.pipeline.template import FlowTemplate, Goto, Match, Move, Output, SetField


def register(
    name: str = "other", low: int = 24, bits: int = 8, first: str = "classify", last: str = "l2"
) -> RegisterField:
    return RegisterField(name, bits, "int", "reg0", "", register=0, low=low, first=first, last=last)


def template(
    table: Table = t.L2, match: tuple = (), actions: tuple = (), feature: str = "l2", priority: int = 7
) -> FlowTemplate:
    return FlowTemplate("tried", feature, table, priority, match, actions, "")


def changed(name: str, **values: object) -> tuple[Table, ...]:
    """The tables with one of them changed; templates are left to the tables' old objects."""
    return tuple(replace(table, **values) if table.name == name else table for table in TABLES)


ARP = Match(f.ETH_TYPE, f.ETH_ARP)

BAD_TEMPLATES = {
    "which the table does not declare": [
        template(t.L2, (Match(f.IN_PORT, "p"),)),
        template(t.L2, (), (SetField(f.ETH_DST, 1),)),
        template(t.L2, (), (Goto(t.ARP),)),
        template(t.PORT_SECURITY, (), (Output(1),), "port_security"),
    ],
    "does not list feature": [template(t.L2, feature="arp_nd")],
    "out of range": [template(priority=70000)],
    "matched twice": [template(t.L2, (Match(f.ETH_DST, 1), Match(f.ETH_DST, 2)))],
    "without dl_type": [
        template(t.ARP, (Match(f.ARP_TPA, "ip"),), feature="arp_nd"),
        template(t.ARP, (), (SetField(f.ARP_OP, 2),), "arp_nd"),
        template(t.ARP, (Match(f.ETH_TYPE, f.ETH_IPV4), Match(f.ARP_OP, 1)), feature="arp_nd"),
    ],
    "without icmpv6_type": [
        template(
            t.ND_REPLY, (Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, 58)), (Move(f.ETH_SRC, f.ND_TLL),), "arp_nd"
        )
    ],
    "of another width": [template(t.ARP, (ARP,), (Move(f.ETH_SRC, f.ARP_SPA),), "arp_nd")],
    "last action": [template(t.L2, (), (Goto(t.DELIVER), SetField(f.TUN_ID, 1)))],
    "does not fit": [template(t.L2, (Match(f.NET, 1 << 24),)), template(t.L2, (), (SetField(f.TUN_DST, 1 << 32),))],
    "may write one flow key": [
        template(t.L2, (Match(f.NET, "n"), Match(f.ETH_DST, "m")), priority=100),
        template(t.ARP, (Match(f.NET, "n"), ARP, Match(f.ARP_OP, 1), Match(f.ARP_TPA, "x")), (), "arp_nd", 100),
    ],
}


@pytest.mark.parametrize(("message", "bad"), [(m, one) for m, many in BAD_TEMPLATES.items() for one in many])
def test_a_wrong_template_is_refused(message: str, bad: FlowTemplate) -> None:
    with pytest.raises(PipelineError, match=message):
        check_pipeline(TABLES, REGISTER_FIELDS, (*TEMPLATES, bad))


BAD_TABLES = {
    "goes backwards": changed("l2", next=("arp",)),
    "is not declared": changed("l2", next=("nowhere",)),
    "cannot be reached": changed("route", next=("route_error", "l2", "outward")),
    "goes back to deliver, which is not before it": changed("l2", back=("deliver",)),
    "declared twice": (*TABLES, replace(t.L2, id=60)),
    "table id 50 is declared twice": (*TABLES, replace(t.L2, name="again", id=50)),
    "order of their ids": (*TABLES[:-2], TABLES[-1], TABLES[-2]),
}


@pytest.mark.parametrize(("message", "tables"), BAD_TABLES.items())
def test_a_wrong_table_is_refused(message: str, tables: tuple[Table, ...]) -> None:
    with pytest.raises(PipelineError, match=message):
        check_pipeline(tables, REGISTER_FIELDS, ())


BAD_REGISTERS = {
    "overlap": (NET, register(low=16)),
    "outside register": (NET, register(low=24, bits=16)),
    "aligned": (NET, register(low=25, bits=4)),
    "no span": (NET, register(first="l2", last="classify")),
    "declared twice": (NET, register("net")),
}


@pytest.mark.parametrize(("message", "registers"), BAD_REGISTERS.items())
def test_a_wrong_register_is_refused(message: str, registers: tuple[RegisterField, ...]) -> None:
    with pytest.raises(PipelineError, match=message):
        check_pipeline(TABLES, registers, ())


def test_registers_may_share_bits_when_their_lives_do_not_meet() -> None:
    check_pipeline(TABLES, (register("a", last="arp"), register("b", first="nd", last="l2")), ())


def test_a_field_is_not_used_outside_its_life() -> None:
    short = replace(NET, last="arp")
    tables = changed("l2", reads=(short, f.ETH_DST))
    l2 = next(table for table in tables if table.name == "l2")
    with pytest.raises(PipelineError, match="outside its life"):
        check_pipeline(tables, (short,), (template(l2, (Match(short, "n"),)),))


def test_each_feature_owns_its_templates() -> None:
    for feature in FEATURES:
        assert feature.templates
        assert {one.feature for one in feature.templates} == {feature.name}
    assert len({one.cookie for one in TEMPLATES}) == len(TEMPLATES)
