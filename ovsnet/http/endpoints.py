"""Endpoints: declared once with their parameters, bodies and answers; from that come routes, checks and OpenAPI.

Bodies are read by msgspec where they are used rather than by the framework, so that what is wrong with a model is told
with its place; their JSON Schema comes from the same types.
"""

from __future__ import annotations

import functools
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import msgspec
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import HTTPScope

from ovsnet.http import openapi
from ovsnet.http.parameters import Parameter, if_match, parse_query
from ovsnet.http.problems import MEDIA_TYPE, ProblemDocument, RequestError, problem, problem_of
from ovsnet.transport.messages import HEADER, PROTOCOL

log = logging.getLogger(__name__)
S = TypeVar("S")
T = TypeVar("T")

MAX_BODY = 64 << 20
"""Bytes of a request's body: a state of a quarter of a million ports."""
CALLER = "ovsnet.caller"
"""The key of ASGI's scope under which the server puts the name in a client's certificate."""

Reply = Response[Any]
_ANY = Any


def reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer as JSON."""
    return Response(msgspec.json.encode(data), status_code=status, media_type="application/json", headers=headers or {})


def refusal(document: ProblemDocument, headers: Mapping[str, str] | None = None) -> Reply:
    """An answer that is a problem document."""
    body = msgspec.json.encode(document)
    return Response(body, status_code=document.status, media_type=MEDIA_TYPE, headers=headers or {})


@dataclass(frozen=True)
class Answer:
    """A kind of answer: ``types`` are what the JSON may be; ``etag``: it carries the revision."""

    status: int
    doc: str
    types: tuple[Any, ...] = ()
    etag: bool = False
    media: str = "application/json"


@dataclass(frozen=True)
class Endpoint(Generic[S]):
    """One method of one path, ``/v1/vpcs/{vpc}``; ``problems`` are the statuses of its refusals.

    ``unversioned``: it is the same in all versions of the protocol, so whoever calls gets an answer.
    """

    method: str
    path: str
    summary: str
    handler: Callable[[Call[S]], Awaitable[Reply]]
    query: tuple[Parameter, ...] = ()
    body: Any = None
    optional_body: bool = False
    answers: tuple[Answer, ...] = ()
    problems: tuple[int, ...] = ()
    conditional: bool = False
    unversioned: bool = False


@dataclass(frozen=True)
class Call(Generic[S]):
    """One request, its parameters checked. ``caller``: the name in the client's certificate, empty without one.

    ``requests`` counts all requests so far, by method and status.
    """

    subject: S
    path: Mapping[str, Any]
    query: Mapping[str, Any]
    body: bytes = b""
    if_match: int | None = None
    caller: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)

    def decode(self, kind: type[T]) -> T:
        """The body as ``kind``. Raises msgspec.MsgspecError."""
        return msgspec.json.decode(self.body, type=kind)


class Endpoints(list[Endpoint[S]]):
    """The endpoints of one subject matter, in order, with a decorator that declares another."""

    def add(
        self, method: str, path: str, *, summary: str = "", **declared: Any
    ) -> Callable[[Callable[[Call[S]], Awaitable[Reply]]], Callable[[Call[S]], Awaitable[Reply]]]:
        """Declare the decorated function; left out, ``summary`` is its docstring's first line."""

        def declare(handler: Callable[[Call[S]], Awaitable[Reply]]) -> Callable[[Call[S]], Awaitable[Reply]]:
            text = summary or (handler.__doc__ or "").strip().splitlines()[0]
            self.append(Endpoint(method, path, text, handler, **declared))
            return handler

        return declare


class Api(Generic[S]):
    """A service's endpoints; ``places`` declare the variable parts of paths.

    ``errors`` makes problem documents of errors that only this service knows. ``requests`` counts by method and status.
    """

    def __init__(
        self,
        info: openapi.Info,
        places: Iterable[Parameter],
        endpoints: Iterable[Endpoint[S]],
        errors: Callable[[Exception], ProblemDocument | None] = lambda _: None,
    ) -> None:
        self.info = info
        self.places = {place.name: place for place in places}
        self.endpoints = tuple(endpoints)
        self.requests: Counter[tuple[str, int]] = Counter()
        self._errors = errors

    @functools.cache  # noqa: B019  (there is one for each service)
    def document(self) -> dict[str, Any]:
        """The OpenAPI document of all endpoints."""
        return openapi.document(self.info, self.endpoints, self.places)

    def app(self, subject: S) -> Litestar:
        """The endpoints as an ASGI application that works on ``subject``, with ``/openapi.json``."""

        async def document(_: Call[S]) -> Reply:
            return reply(self.document())

        shown = Endpoint("GET", "/openapi.json", "This API as an OpenAPI document.", document, unversioned=True)
        return Litestar(
            route_handlers=[self._route(one, subject) for one in (*self.endpoints, shown)],
            exception_handlers={Exception: self._on_error, HTTPException: self._on_error},
            openapi_config=None,
            request_max_body_size=MAX_BODY,
            logging_config=None,
        )

    def _route(self, endpoint: Endpoint[S], subject: S) -> HTTPRouteHandler:
        async def handle(request: Request[_ANY, _ANY, _ANY]) -> Reply:
            answer = await endpoint.handler(await self._call(endpoint, subject, request))
            self.requests[endpoint.method, answer.status_code or 200] += 1
            return answer

        handle.__annotations__ = {"request": Request, "return": Response}
        path = re.sub(r"\{(\w+)\}", r"{\1:str}", endpoint.path)
        return HTTPRouteHandler(path, http_method=cast(_ANY, endpoint.method), status_code=200)(handle)

    async def _call(self, endpoint: Endpoint[S], subject: S, request: Request[_ANY, _ANY, _ANY]) -> Call[S]:
        """Check a request against what its endpoint declares. Raises RequestError."""
        if not endpoint.unversioned:
            check_protocol(request.headers.get(HEADER))
        query = parse_query(request.query_params.multi_items(), endpoint.query)
        path = {name: self.places[name].value(text) for name, text in request.path_params.items()}
        return Call(
            subject,
            path,
            query,
            await request.body() if endpoint.body is not None else b"",
            if_match(request.headers.get("if-match")) if endpoint.conditional else None,
            caller_of(request.scope),
            request.headers,
            self.requests,
        )

    def _on_error(self, request: Request[_ANY, _ANY, _ANY], exc: Exception) -> Reply:
        """Every error as a problem document; ours are logged, the caller's are not."""
        headers: Mapping[str, str] = {}
        if isinstance(exc, HTTPException):
            document = problem(exc.status_code, "http-error", exc.detail or "the request is refused")
            headers = {name: value for name, value in (exc.headers or {}).items() if name.lower() == "allow"}
        else:
            document = self._errors(exc) or problem_of(exc) or _defect(exc)
        self.requests[request.method, document.status] += 1
        return refusal(document, headers)


def check_protocol(text: str | None) -> None:
    """Raises RequestError for a request that is written in a version of the protocol that is not known here."""
    if text is not None and text.strip() != str(PROTOCOL):
        message = f"{HEADER}: {text[:80]}: version {PROTOCOL} is spoken here. Use a client that speaks it"
        raise RequestError(400, "unknown-protocol", message)


def caller_of(scope: HTTPScope) -> str:
    """The name in the client's certificate, empty where there is none (on a unix socket)."""
    return str(cast(dict[str, Any], scope).get(CALLER, ""))


def _defect(exc: Exception) -> ProblemDocument:
    log.error("a request failed", exc_info=exc)
    return problem(500, "internal-error", "the service failed to answer; its log says why")
