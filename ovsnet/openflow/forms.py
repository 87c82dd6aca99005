"""The wire form of each flow template: a message with gaps, made ahead by ``learning`` and kept in ``forms.json``.

So nothing that encodes or decodes has to load os-ken, which takes longer than to encode all flows of a host.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, fields
from importlib import resources

import msgspec
import numpy as np
from numpy.typing import NDArray

from ovsnet.pipeline.fields import Field, RegisterField
from ovsnet.pipeline.tables import Table
from ovsnet.pipeline.template import Action, FlowTemplate, Match

ADD, DELETE_STRICT = 0, 4
"""OpenFlow's commands for a flow."""
FILE = "forms.json"
"""Written by ``make docs``."""
KINDS = {(ADD, False): "add", (ADD, True): "listed", (DELETE_STRICT, False): "delete"}
"""The forms of a template, by command and whether the match is in the order of ``dump.canonical_match``."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Slot:
    """Where a parameter stands in a message: ``width`` bytes at ``offset``, the low-order ones of the value."""

    param: int
    offset: int
    width: int


@dataclass(frozen=True)
class Form:
    """The wire form of one template and command: a message with gaps, and where the parameters go."""

    prototype: Bytes
    slots: tuple[Slot, ...]
    match: slice  # the OXM TLVs, without the match's header and padding
    instructions: slice

    @property
    def size(self) -> int:
        """The length of a message in bytes, wrapper included."""
        return len(self.prototype)


class KeptForm(msgspec.Struct, frozen=True):
    """A form as the file has it: the message in hexadecimal, and (parameter, offset, width) of each slot."""

    message: str
    slots: tuple[tuple[int, int, int], ...]
    match: tuple[int, int]
    instructions: tuple[int, int]

    @staticmethod
    def of(form: Form) -> KeptForm:
        """A form, to be kept."""
        slots = tuple((slot.param, slot.offset, slot.width) for slot in form.slots)
        ends = [(part.start, part.stop) for part in (form.match, form.instructions)]
        return KeptForm(form.prototype.tobytes().hex(), slots, *ends)

    def form(self) -> Form:
        """The form again."""
        prototype = np.frombuffer(bytes.fromhex(self.message), np.uint8)
        return Form(prototype, tuple(Slot(*slot) for slot in self.slots), slice(*self.match), slice(*self.instructions))


class Kept(msgspec.Struct, frozen=True):
    """What the file has of a template: its forms by kind, learnt when its shape was so."""

    shape: str
    forms: dict[str, KeptForm]


@functools.cache
def form(template: FlowTemplate, command: int, canonical: bool = False) -> Form:
    """The wire form of a template; cached.

    With ``canonical`` the TLVs of the match are in the order of ``dump.canonical_match``, to compare with what a
    switch lists; sent they are in an order that meets their prerequisites. Raises ValueError for a template of which
    a parameter does not stand in whole bytes.
    """
    kept, kind = _kept().get(template.name), KINDS.get((command, canonical), "")
    if kept is not None and kind in kept.forms and kept.shape == shape(template):
        return kept.forms[kind].form()
    from ovsnet.openflow.learning import learn  # loads os-ken

    return learn(template, command, canonical)


@functools.cache
def _kept() -> dict[str, Kept]:
    file = resources.files(__package__).joinpath(FILE)
    return msgspec.json.decode(file.read_bytes(), type=dict[str, Kept]) if file.is_file() else {}


def shape(template: FlowTemplate) -> str:
    """What a template's forms depend on, in short: whatever it looks like but for names of tables and its words."""
    text = repr(
        (template.table.id, template.priority, template.cookie, *map(_plain, template.match + template.actions))
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(part: Match | Action) -> tuple[object, ...]:
    return (type(part).__name__, *(_word(getattr(part, one.name)) for one in fields(part)))


def _word(value: object) -> object:
    if isinstance(value, Table):
        return value.id
    if isinstance(value, RegisterField):
        return value.oxm, value.low, value.bits
    return value.oxm if isinstance(value, Field) else value
