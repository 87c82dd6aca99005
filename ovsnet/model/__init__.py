"""The declared network model: types, loading, validation, assignment."""

from ovsnet.model.types import AllowedAddress, Host, Model, Network, Port, Subnet, Underlay, Vpc, VpcState

__all__ = ["AllowedAddress", "Host", "Model", "Network", "Port", "Subnet", "Underlay", "Vpc", "VpcState"]
