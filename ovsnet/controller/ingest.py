"""Changes that come over the bus: what ``POST /v1/batch`` takes, from clients that have a name there and no token."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import msgspec

from ovsnet.controller.access import check_edits
from ovsnet.controller.api.app import problem_of_error
from ovsnet.controller.core import Core
from ovsnet.controller.intents import batch_edits, decode_batch
from ovsnet.controller.requests import Request
from ovsnet.controller.truth import Truth
from ovsnet.errors import UserError
from ovsnet.http.problems import ProblemDocument, problem
from ovsnet.model.checks import NAME
from ovsnet.pki.tokens import Principal
from ovsnet.transport.messages import RequestItem

log = logging.getLogger(__name__)

WHAT = "ingest"


class IngestStep(msgspec.Struct, frozen=True):
    """A VPC before and after; ``revision`` is ``null`` for one that is gone."""

    previous: int
    revision: int | None


class IngestAnswer(msgspec.Struct, frozen=True):
    """What became of it: it is durable; hosts are on their way to it."""

    changed: bool
    tx: str
    vpcs: dict[str, IngestStep]


def clients_of(words: Iterable[str]) -> dict[str, Principal]:
    """Who may write over the bus, from ``CLIENT`` or ``CLIENT=TENANT,TENANT`` each. Raises UserError."""
    found = {}
    for word in words:
        name, given, tenants = word.partition("=")
        listed = frozenset(filter(None, tenants.split(",")))
        if not NAME.fullmatch(name) or bool(given) != bool(listed) or not all(map(NAME.fullmatch, listed)):
            raise UserError(f"--ingest {word}: give a client's name, or NAME=TENANT,TENANT for some tenants only")
        found[name] = Principal(name, "write", listed or None)
    return found


class Ingest:
    """Carries out what clients of the bus ask for, each in its own name, and answers them as the API would."""

    def __init__(self, core: Core, clients: Mapping[str, Principal]) -> None:
        self._core, self._clients = core, clients

    def __call__(self, client: str, body: bytes) -> bytes:
        """The answer to a request: an IngestAnswer, or a problem document, which has a ``status``."""
        caller = self._clients.get(client)
        if caller is None:
            text = f"{client} may not write over the bus. Start the controller with --ingest {client} if it is meant to"
            return msgspec.json.encode(problem(403, "forbidden", text))
        try:
            return msgspec.json.encode(self._carry_out(caller, body))
        except Exception as exc:
            self._core.refused(client, WHAT, str(getattr(exc, "code", "refused")), str(exc))
            return msgspec.json.encode(problem_of_error(exc) or _defect(exc))

    def _carry_out(self, caller: Principal, body: bytes) -> IngestAnswer:
        batch = decode_batch(msgspec.json.decode(body, type=list[RequestItem]))

        def build(truth: Truth) -> Request:
            edits = tuple(batch_edits(truth, batch, caller.name))
            check_edits(truth, edits, caller)
            return Request(edits, caller.name, caller.name, WHAT, if_match=batch.revisions)

        done = self._core.transact(build)
        steps = {
            name: IngestStep(one.previous, None if one.deleted else one.revision) for name, one in done.vpcs.items()
        }
        return IngestAnswer(bool(done), done.tx, steps)


def _defect(exc: Exception) -> ProblemDocument:
    log.error("a request over the bus failed", exc_info=exc)
    return problem(500, "internal-error", "the controller failed to answer; its log says why")
