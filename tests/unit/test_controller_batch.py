"""A batch is decoded once, on whatever way it comes and however often it is planned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ovsnet.controller import intents
from ovsnet.controller.api.service import Service
from ovsnet.controller.api.site import batch
from ovsnet.controller.core import Core
from ovsnet.controller.ingest import Ingest, clients_of
from ovsnet.controller.store import Stale
from ovsnet.http.endpoints import Call
from ovsnet.transport.edits import PreconditionError
from tests.controller_kit import cloud, core_at

MANNERS = {"owner": "me", "adopt": False, "dry_run": False, "wait": 0.0}


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    made = core_at(tmp_path)
    cloud(made)
    yield made
    made.close()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that are decoded."""
    seen: list[bytes] = []
    real = intents.decode_declared

    def counted(body: bytes, kind: Any) -> Any:
        seen.append(body)
        return real(body, kind)

    monkeypatch.setattr(intents, "decode_declared", counted)
    return seen


def items(vpc: str, **more: Any) -> bytes:
    return msgspec.json.encode([{"op": "put", "vpc": vpc, "body": {"networks": {"web": {}}}, **more}])


def test_by_the_api(core: Core, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    service, real, turns = Service(core), core._transact, iter((Stale(["shop"]), None))

    def stale_first(build: Any) -> Any:
        if (stale := next(turns)) is not None:
            build(core._truth)
            raise stale
        return real(build)

    monkeypatch.setattr(core, "_transact", stale_first)
    asyncio.run(batch(Call(service, {}, MANNERS, items("bank"))))
    assert core.state("bank").networks
    assert len(decoded) == 1
    monkeypatch.setattr(core, "_transact", real)
    with pytest.raises(PreconditionError):
        asyncio.run(batch(Call(Service(core), {}, MANNERS, items("bank", revision=7))))


def test_over_the_bus(core: Core, decoded: list[bytes]) -> None:
    answer = msgspec.json.decode(Ingest(core, clients_of(["billing"]))("billing", items("bank")))
    assert answer["changed"]
    assert len(decoded) == 1
