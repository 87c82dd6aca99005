"""How slow this machine may be."""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("OVSNET_LAB_PATIENCE", "1"))
"""How much slower than usual this machine may be: every wait of a lab is that many times as long."""
