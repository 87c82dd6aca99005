"""ovsnet: declared virtual networks as OpenFlow tables on Open vSwitch."""

from ovsnet._version import VERSION as __version__

__all__ = ["__version__"]
