"""Why a packet arrives or not: which rule of the model decides, at which end, and the smallest change that turns it."""

from __future__ import annotations

from ovsnet.reasons.answer import Answer, End, Probe, explain, placed
from ovsnet.reasons.changes import Edit, flow_style
from ovsnet.reasons.kinds import REASONS, reasons_page

__all__ = ["REASONS", "Answer", "Edit", "End", "Probe", "explain", "flow_style", "placed", "reasons_page"]
