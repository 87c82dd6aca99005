"""The declared model: types, reading, checking, identity and assignment. Pure but for reading and writing files."""

from ovsnet.errors import ModelError, Problem, UserError
from ovsnet.model.assign import assign, assignments_missing, complete
from ovsnet.model.identity import derive_mac, link_local, port_id
from ovsnet.model.loader import load, load_assigned
from ovsnet.model.lock import Lock, lock_path, read_lock, write_lock
from ovsnet.model.states import (
    canonical_state,
    check_state,
    check_states,
    decode_declared,
    decode_state,
    states_for_host,
    vpc_states,
)
from ovsnet.model.types import (
    AllowedAddress,
    Host,
    Model,
    Network,
    Port,
    Remote,
    RemoteEndpoint,
    Rule,
    SecurityGroup,
    Subnet,
    Underlay,
    Vpc,
    VpcState,
)

__all__ = [
    "AllowedAddress",
    "Host",
    "Lock",
    "Model",
    "ModelError",
    "Network",
    "Port",
    "Problem",
    "Remote",
    "RemoteEndpoint",
    "Rule",
    "SecurityGroup",
    "Subnet",
    "Underlay",
    "UserError",
    "Vpc",
    "VpcState",
    "assign",
    "assignments_missing",
    "canonical_state",
    "check_state",
    "check_states",
    "complete",
    "decode_declared",
    "decode_state",
    "derive_mac",
    "link_local",
    "load",
    "load_assigned",
    "lock_path",
    "port_id",
    "read_lock",
    "states_for_host",
    "vpc_states",
    "write_lock",
]
