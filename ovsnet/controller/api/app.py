"""The controller's API put together, behind the check of who calls."""

from __future__ import annotations

from ovsnet._version import VERSION
from ovsnet.controller.access import Asgi, Authenticator, gate
from ovsnet.controller.api.service import Service
from ovsnet.controller.api.site import SITE
from ovsnet.controller.api.vpcs import VPCS
from ovsnet.controller.errors import ForbiddenError, NotFoundError, StoreError, TakenError
from ovsnet.http import openapi
from ovsnet.http.endpoints import Api
from ovsnet.http.parameters import Parameter, name_of
from ovsnet.http.problems import ProblemDocument, problem, problem_of

_SUBNET = r"[a-z0-9][a-z0-9_-]{0,62}:[0-9a-f:.]{2,39}-[0-9]{1,3}"
_WORKLOAD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_PLACES = (
    name_of("vpc", "The VPC's name."),
    name_of("id", "The object's name."),
    name_of("host", "The host's name."),
    Parameter("workload", "The machine's name.", _WORKLOAD, "a name: letters, digits, '.', '_' and '-'"),
    Parameter("subnet", "NETWORK:CIDR with - for /, as web:192.168.1.0-24.", _SUBNET, "NETWORK:ADDRESS-LENGTH"),
)
_ABOUT = (
    "What is declared of all virtual networks, and how hosts stand with it. Everything declared is idempotent; every "
    "answer to a write is durable, and every read is of what is durable."
)


def controller_api() -> Api[Service]:
    """The endpoints, with what they need to be served and shown."""
    return Api(openapi.Info("ovsnet controller", VERSION, _ABOUT), _PLACES, (*SITE, *VPCS), _errors)


def create_app(service: Service, authenticator: Authenticator | None = None) -> Asgi:
    """The API of a controller as an ASGI application; without an ``authenticator`` on the unix socket only."""
    return gate(controller_api().app(service), authenticator)


def problem_of_error(exc: Exception) -> ProblemDocument | None:
    """What a caller is told of an error, on whatever way he called; ``None`` for one that is not his doing."""
    return _errors(exc) or problem_of(exc)


def _errors(exc: Exception) -> ProblemDocument | None:
    if isinstance(exc, NotFoundError):
        return problem(404, exc.code, str(exc))
    if isinstance(exc, TakenError):
        return problem(409, exc.code, str(exc), problems=tuple(exc.problems))
    if isinstance(exc, ForbiddenError):
        return problem(403, exc.code, str(exc))
    if isinstance(exc, StoreError):
        return problem(507 if exc.code == "store-full" else 503, exc.code, str(exc))
    return None
