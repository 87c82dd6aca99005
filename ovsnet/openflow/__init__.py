"""Package openflow."""
