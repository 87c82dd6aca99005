"""The tables of the store, as they are in the version that this program writes (migrations.py leads there)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table

VERSION = 2
"""The version of the tables. A store of a later one is refused; one of an earlier one is upgraded at the start."""

metadata = MetaData()

settings = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", String, nullable=False),
)
"""``schema``: the version of the tables."""

hosts = Table(
    "hosts",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("owner", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

underlay = Table(
    "underlay",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("owner", String, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""One row, with id 1, or none."""

vpcs = Table(
    "vpcs",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("rev", BigInteger, nullable=False),
    Column("gone", Integer, nullable=False, default=0),
    Column("digest", String(32), nullable=False),
    Column("meta", LargeBinary, nullable=False),
)
"""``gone``: 1 for a VPC that was deleted; its row stays, so that one of the same name goes on with its revisions."""

objects = Table(
    "objects",
    metadata,
    Column("vpc", String(63), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("owner", String, nullable=True),
    Column("body", LargeBinary, nullable=False),
    Column("claim", String(48), nullable=True),
    Index("objects_claim", "claim", unique=True),
)
"""The objects of VPCs, by the collection (``kind``) that they are in; ``owner`` is null where it is the VPC's.

``claim`` is what an object has to itself in the whole site, ``vni:NUMBER`` or ``port:ID``: of two controllers that
give one away at the same time, one is refused by the index.
"""

history = Table(
    "history",
    metadata,
    Column("vpc", String(63), primary_key=True),
    Column("rev", BigInteger, primary_key=True),
    Column("tx", String(32), nullable=False),
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("forward", LargeBinary, nullable=False),
    Column("backward", LargeBinary, nullable=False),
)
"""What led to a revision (a PatchBody), and what leads back (history.Backward)."""

outbox = Table(
    "outbox",
    metadata,
    Column("vpc", String(63), primary_key=True),
    Column("rev", BigInteger, primary_key=True),
    Column("tx", String(32), nullable=False),
)
"""Revisions that may not have been published yet; their contents are in ``history``."""

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("what", String, nullable=False),
    Column("tx", String(32), nullable=False),
    Column("outcome", String, nullable=False),
    Column("detail", String, nullable=False),
    Index("audit_tx", "tx"),
)

resting = Table(
    "resting",
    metadata,
    Column("key", String, primary_key=True),
    Column("vpc", String(63), nullable=False),
    Column("rev", BigInteger, nullable=False),
    Column("until", Float, nullable=False),
)
"""VNIs and addresses that were released and are not assigned again before ``until``."""
