"""The switch's database: bridges, tunnel ports and interface bindings (the only package that uses python-ovs)."""

from ovsnet.ovsdb.client import Ovsdb
from ovsnet.ovsdb.link import OvsdbError
from ovsnet.ovsdb.plugs import Plugged
from ovsnet.ovsdb.state import Conflict, Interface, SwitchState
from ovsnet.ovsdb.zones import Zone, ZoneRecord

__all__ = ["Conflict", "Interface", "Ovsdb", "OvsdbError", "Plugged", "SwitchState", "Zone", "ZoneRecord"]
