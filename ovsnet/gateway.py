"""What the gateways of all routers share; it imports nothing, so that every process may use it."""

GATEWAY_MAC = "02:6f:76:00:00:01"
"""The MAC of every router's gateways on every host: locally administered, and no port's."""
