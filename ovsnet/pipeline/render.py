"""Flows as text: readable with table and field names, or as ovs-ofctl takes them, or as plain data for JSON."""

from __future__ import annotations

from typing import Any

from ovsnet.model.numbers import ip_text, mac_text
from ovsnet.pipeline.fields import CT_BITS, ETH_ARP, ETH_IPV4, ETH_IPV6, PROTO_ICMPV6, Field, RegisterField
from ovsnet.pipeline.template import (
    Action,
    Call,
    Choose,
    Commit,
    Copy,
    DecTtl,
    FlowTemplate,
    ForgetInPort,
    Goto,
    Match,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Row,
    SetField,
    Track,
    Translate,
    Value,
)
from ovsnet.pipeline.verdicts import CONTROLLER_ID

_FRAGMENTS = {0: "no", 1: "first", 3: "later"}
_SHORT = {("dl_type", ETH_ARP): "arp", ("dl_type", ETH_IPV4): "ip", ("dl_type", ETH_IPV6): "ipv6"}


def value_text(field: Field, value: int) -> str:
    """A field's value as ovs-fields(7) writes it."""
    if field.kind == "mac":
        return mac_text(value)
    if field.kind in ("ipv4", "ipv6"):
        return ip_text(value, field.bits)
    return f"{value:#x}" if field.kind == "hex" else str(value)


def ct_text(value: int, mask: int) -> str:
    """A match on ct_state as ovs-fields(7) writes it, such as ``+trk-inv``."""
    return "".join(f"{'+' if value & bit else '-'}{name}" for name, bit in CT_BITS.items() if mask & bit)


def flow_text(row: Row) -> str:
    """One line for a person: ``deliver 100 net=5001,dl_dst=... -> output:3``."""
    template, values = row.template, row.named()
    match = ",".join(_match_text(term, values, names=True) for term in _spoken(template)) or "any"
    actions = " ".join(_action_text(action, values, names=True) for action in template.actions) or "drop"
    return f"{template.table.name} {row.priority} {match} -> {actions}"


def flow_ofctl(row: Row) -> str:
    """One line for ``ovs-ofctl -O OpenFlow14 add-flows``."""
    template, values = row.template, row.named()
    match = "".join(f",{_match_text(term, values, names=False)}" for term in _spoken(template))
    actions = ",".join(_action_text(action, values, names=False) for action in template.actions) or "drop"
    return f"cookie={template.cookie:#x},table={template.table.id},priority={row.priority}{match},actions={actions}"


def flow_data(row: Row) -> dict[str, Any]:
    """A flow as plain data: table, priority, match and actions by name, template and feature."""
    template, values = row.template, row.named()
    return {
        "table": template.table.name,
        "table_id": template.table.id,
        "priority": row.priority,
        "match": {term.field.name: _term_value(term, values) for term in template.match},
        "actions": [_action_text(action, values, names=True) for action in template.actions],
        "template": template.name,
        "feature": template.feature,
    }


def template_text(template: FlowTemplate) -> str:
    """The shape of a template, its parameters in angle brackets."""
    match = ",".join(_match_text(term, None, names=True) for term in _spoken(template)) or "any"
    actions = " ".join(_action_text(action, None, names=True) for action in template.actions) or "drop"
    return f"{match} -> {actions}"


def _spoken(template: FlowTemplate) -> list[Match]:
    """The terms worth saying: ``icmp6`` says its EtherType too."""
    icmp6 = any(term.field.name == "nw_proto" and term.value == PROTO_ICMPV6 for term in template.match)
    return [term for term in template.match if not (icmp6 and term.field.name == "dl_type")]


def _match_text(term: Match, values: dict[str, int] | None, *, names: bool) -> str:
    field = term.field
    if isinstance(term.value, int) and (field.name, term.value) in _SHORT:
        return _SHORT[field.name, term.value]
    if field.kind == "ct" and isinstance(term.value, int) and isinstance(term.mask, int):
        return f"{field.name}={ct_text(term.value, term.mask)}"
    if field.name == "nw_frag" and isinstance(term.value, int):
        return f"nw_frag={_FRAGMENTS[term.value]}"
    if field.name == "nw_proto" and term.value == PROTO_ICMPV6:
        return "icmp6"
    if field.name == "vlan_vid" and term.value == 0:
        return "untagged" if names else "vlan_tci=0x0000/0x1fff"
    if isinstance(field, RegisterField) and not names:
        mask = field.full_mask if term.mask is None else _number(term.mask, values)
        return f"reg{field.register}={(_number(term.value, values) << field.low):#x}/{mask << field.low:#x}"
    return f"{field.name}={_term_value(term, values)}"


def _term_value(term: Match, values: dict[str, int] | None) -> str:
    text = _value(term.field, term.value, values)
    if term.mask is None:
        return text
    if values is not None and term.field.kind in ("ipv4", "ipv6"):
        return f"{text}/{_number(term.mask, values).bit_count()}"
    return f"{text}/{_value(term.field, term.mask, values)}"


def _action_text(action: Action, values: dict[str, int] | None, *, names: bool) -> str:
    if isinstance(action, Output):
        return _output_text(action, values, names=names)
    if isinstance(action, Move):
        return _move_text(action, names=names)
    if isinstance(action, SetField):
        return _set_text(action, values, names=names)
    if isinstance(action, Goto | Call):
        return _table_text(action, names=names)
    if isinstance(action, Copy):
        owner = "" if names else f"id={CONTROLLER_ID},"
        return f"controller(max_len={action.length},{owner}meter_id={_plain(action.meter, values)})"
    if isinstance(action, Choose):
        return _choose_text(action, values, names=names)
    if isinstance(action, Track | Translate | Commit):
        return _track_text(action, values, names=names)
    return _PLAIN[type(action)]


_PLAIN: dict[type, str] = {
    DecTtl: "dec_ttl", PushVlan: "push_vlan:0x8100", PopVlan: "pop_vlan", ForgetInPort: "load:0->NXM_OF_IN_PORT[]",
}  # fmt: skip


def _table_text(action: Goto | Call, *, names: bool) -> str:
    if isinstance(action, Goto):
        return f"goto:{action.table.name}" if names else f"goto_table:{action.table.id}"
    return f"call:{action.table.name}" if names else f"resubmit(,{action.table.id})"


def _choose_text(action: Choose, values: dict[str, int] | None, *, names: bool) -> str:
    if names:
        return f"{action.field.name}=one of 0 to {_plain(action.last, values)}"
    return f"multipath(symmetric_l3,0,hrw,{_number(action.last, values) + 1},0,{_nxm(action.field)})"


def _output_text(action: Output, values: dict[str, int] | None, *, names: bool) -> str:
    if action.port is None:
        return "in_port"
    if isinstance(action.port, RegisterField):
        return f"output:{action.port.name if names else _nxm(action.port)}"
    return f"output:{_plain(action.port, values)}"


def _move_text(action: Move, *, names: bool) -> str:
    if names:
        return f"{action.target.name}={action.source.name}"
    return f"move:{_nxm(action.source)}->{_nxm(action.target)}"


def _track_text(action: Track | Translate | Commit, values: dict[str, int] | None, *, names: bool) -> str:
    zone = action.zone.name if names else _nxm(action.zone)
    if isinstance(action, Commit):
        return f"ct(commit,zone={zone})"
    table = action.table.name if names else action.table.id
    if isinstance(action, Track):
        return f"ct(table={table},zone={zone}{',nat' * action.restore})"
    end = "src" if action.field.name.endswith("src") else "dst"
    return f"ct(commit,table={table},zone={zone},nat({end}={_value(action.field, action.value, values)}))"


def _nxm(field: Field) -> str:
    """A field as the operand of an action (ovs-actions(7))."""
    if not isinstance(field, RegisterField):
        return f"{_NXM[field.name]}[]"
    if field.bits > 32:
        return f"NXM_NX_{field.oxm.upper()}[]"
    return f"NXM_NX_REG{field.register}[{field.low}..{field.low + field.bits - 1}]"


def _set_text(action: SetField, values: dict[str, int] | None, *, names: bool) -> str:
    field, text = action.field, _value(action.field, action.value, values)
    if names:
        return f"{field.name}={text}"
    if isinstance(field, RegisterField) and field.bits <= 32:
        return f"load:{_number(action.value, values)}->{_nxm(field)}"
    if isinstance(field, RegisterField):
        return f"set_field:{_number(action.value, values):#x}->{field.oxm}"
    return f"set_field:{text}->{_SET_NAMES.get(field.name, field.name)}"


_NXM = {
    "dl_src": "NXM_OF_ETH_SRC", "dl_dst": "NXM_OF_ETH_DST", "arp_sha": "NXM_NX_ARP_SHA", "arp_tha": "NXM_NX_ARP_THA",
    "arp_spa": "NXM_OF_ARP_SPA", "arp_tpa": "NXM_OF_ARP_TPA", "ipv6_src": "NXM_NX_IPV6_SRC",
    "ipv6_dst": "NXM_NX_IPV6_DST", "nd_tll": "NXM_NX_ND_TLL", "nw_src": "NXM_OF_IP_SRC", "nw_dst": "NXM_OF_IP_DST",
    "ct_nw_src": "NXM_NX_CT_NW_SRC", "ct_nw_dst": "NXM_NX_CT_NW_DST", "ct_ipv6_src": "NXM_NX_CT_IPV6_SRC",
    "ct_ipv6_dst": "NXM_NX_CT_IPV6_DST", "tcp_dst": "NXM_OF_TCP_DST", "udp_dst": "NXM_OF_UDP_DST",
    "sctp_src": "OXM_OF_SCTP_SRC", "sctp_dst": "OXM_OF_SCTP_DST", "icmp_type": "NXM_OF_ICMP_TYPE",
    "icmp_code": "NXM_OF_ICMP_CODE", "icmpv6_type": "NXM_NX_ICMPV6_TYPE", "icmpv6_code": "NXM_NX_ICMPV6_CODE",
    "nw_proto": "NXM_OF_IP_PROTO",
}  # fmt: skip
_SET_NAMES = {"dl_src": "eth_src", "dl_dst": "eth_dst"}


def _value(field: Field, value: Value, values: dict[str, int] | None) -> str:
    if isinstance(value, str) and values is None:
        return f"<{value}>"
    return value_text(field, _number(value, values))


def _plain(value: Value, values: dict[str, int] | None) -> str:
    return f"<{value}>" if isinstance(value, str) and values is None else str(_number(value, values))


def _number(value: Value, values: dict[str, int] | None) -> int:
    if isinstance(value, int):
        return value
    if values is None:
        raise ValueError(f"parameter {value} has no value")
    return values[value]
