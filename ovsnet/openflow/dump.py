"""Reading flow statistics from the wire, without an object per field: 100,000 flows in a fraction of a second."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_ENTRY = struct.Struct("!HBx8xH10xQQQHH")  # ofp_flow_stats up to its match's type and length (OpenFlow 1.4, 7.3.5.2)
_MATCH_AT = 48
_OXM = struct.Struct("!I")


class FlowEntry(NamedTuple):
    """A flow as a switch reports it.

    ``match`` is canonical (``canonical_match``): OXM TLVs without the match's type, length and padding;
    ``instructions`` are the bytes as sent. ``packets`` and ``bytes`` are the flow's counters.
    """

    table: int
    priority: int
    cookie: int
    match: bytes
    instructions: bytes
    packets: int
    bytes: int


def canonical_match(oxm: bytes) -> bytes:
    """The OXM TLVs of a match in ascending order of their bytes, so that equal matches are equal bytes.

    Raises ValueError when the TLVs do not fill ``oxm`` exactly.
    """
    offset, end, last = 0, len(oxm), -1
    try:
        while offset < end:
            (header,) = _OXM.unpack_from(oxm, offset)
            if header <= last:
                return _sorted(oxm)
            last = header
            offset += 4 + (header & 0xFF)
    except struct.error:
        offset = end + 1
    if offset != end:
        raise ValueError(f"malformed match: {oxm.hex()}")
    return oxm


def _sorted(oxm: bytes) -> bytes:
    fields = []
    offset = 0
    while offset < len(oxm):
        size = 4 + oxm[offset + 3] if offset + 4 <= len(oxm) else 4
        fields.append(oxm[offset : offset + size])
        offset += size
    if offset != len(oxm):
        raise ValueError(f"malformed match: {oxm.hex()}")
    return b"".join(sorted(fields))


def parse_flow_stats(bodies: Iterable[bytes]) -> Iterator[FlowEntry]:
    """The flows in the bodies of OFPMP_FLOW replies, as ``dump_flows`` returns them.

    Raises ValueError when a body is cut short.
    """
    unpack = _ENTRY.unpack_from
    for body in bodies:
        offset, end = 0, len(body)
        while offset < end:
            if end - offset < _ENTRY.size:
                raise ValueError("flow statistics end in the middle of a flow")
            length, table, priority, cookie, packets, count, _, match_length = unpack(body, offset)
            match_at = offset + _MATCH_AT
            after = match_at + (match_length + 7 & ~7)
            following = offset + length
            if not after <= following <= end:
                raise ValueError("flow statistics end in the middle of a flow")
            match = canonical_match(body[match_at + 4 : match_at + match_length])
            yield FlowEntry(table, priority, cookie, match, body[after:following], packets, count)
            offset = following
