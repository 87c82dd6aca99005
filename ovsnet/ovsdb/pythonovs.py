"""The parts of python-ovs that we use, imported without eventlet.

``ovs.poller`` imports eventlet where it is installed, only to ask whether it has patched ``select``: 0.15 s of start-up
and a deprecation warning for nothing. Where a program has loaded eventlet itself, it stays as it is.
"""

import sys

_ABSENT = [name for name in ("eventlet", "gevent") if name not in sys.modules]
for _name in _ABSENT:
    sys.modules[_name] = None  # type: ignore[assignment]  # makes the import fail at once
try:
    from ovs import jsonrpc, poller
    from ovs.db import idl
finally:
    for _name in _ABSENT:
        del sys.modules[_name]

__all__ = ["idl", "jsonrpc", "poller"]
