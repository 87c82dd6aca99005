"""The hypervisor's API put together: HTTP on a unix socket, and by mTLS on TCP.

Imported once the first reconciliation is under way, since the web framework takes a while to load.
"""

from __future__ import annotations

from litestar import Litestar

from ovsnet._version import VERSION
from ovsnet.agent.agent import Agent
from ovsnet.agent.api_objects import OBJECTS
from ovsnet.agent.api_ports import PORTS
from ovsnet.agent.api_site import SITE
from ovsnet.http import openapi
from ovsnet.http.endpoints import Api
from ovsnet.http.parameters import Parameter, name_of
from ovsnet.http.problems import ProblemDocument, problem
from ovsnet.openflow.errors import SwitchError
from ovsnet.ovsdb import OvsdbError

_SUBNET = r"[a-z0-9][a-z0-9_-]{0,62}:[0-9a-f:.]{2,39}-[0-9]{1,3}"
_PLACES = (
    name_of("vpc", "The VPC's name."),
    name_of("id", "The object's name."),
    name_of("workload", "The machine's name."),
    Parameter("subnet", "NETWORK:CIDR with - for /, as web:192.168.1.0-24.", _SUBNET, "NETWORK:ADDRESS-LENGTH"),
)
_ABOUT = (
    "What a hypervisor is told of virtual networks, and how it stands with them. Everything declared is idempotent."
)


def agent_api() -> Api[Agent]:
    """The endpoints, with what they need to be served and shown."""
    return Api(openapi.Info("ovsnet agent", VERSION, _ABOUT), _PLACES, (*SITE, *OBJECTS, *PORTS), _errors)


def create_app(agent: Agent) -> Litestar:
    """The API of an agent as an ASGI application."""
    return agent_api().app(agent)


def _errors(exc: Exception) -> ProblemDocument | None:
    if isinstance(exc, SwitchError | OvsdbError):
        return problem(503, "switch-unavailable", str(exc))
    return None
