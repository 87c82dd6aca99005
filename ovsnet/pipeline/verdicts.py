"""What the ``verdict`` register says, and how switches tell their agent of packets, for flows and their readers."""

from __future__ import annotations

ALLOW, DROP, REJECT = 1, 2, 3
LOGGED = 16
"""Added to a verdict whose rule says ``log``."""

CONTROLLER_ID = 0x4F56
"""Whom copies of packets are for: connections that call themselves so (NXT_SET_CONTROLLER_ID), and no other app's."""
REJECT_METER, LOG_METER, ROUTER_METER, NEIGHBOUR_METER = 1001, 1002, 1003, 1004
"""The meters that copies pass: for answers, for log entries, of what routers do not pass on, of what is to be learnt
about provider networks.
"""
PORT_METERS = range(0x10000, 0x20000)
"""The meters that what single ports ask of the agent passes: the first of these numbers plus the OpenFlow port."""
EXPIRED, NO_HOST, NO_NETWORK, NO_SERVICE = 1, 2, 3, 4
"""What the ``why`` register says: the TTL is used up; nobody has the address; no route; it is for the router itself."""
LOG_LENGTH = 128
"""Bytes of a packet that a log entry needs."""
