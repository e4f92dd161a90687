"""The `cell` family: small graphs that are searched for, repeated along a fixed skeleton."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import ValidationError

from search_spaces.architecture import Architecture
from search_spaces.cell_document import CellDocument
from search_spaces.declared import DeclaredSpace
from search_spaces.domains import Value
from search_spaces.faults import SpecError, did_you_mean, show, spec_error
from search_spaces.groups import check_groups

CELLS = ("nodes", "operations", "cell", "normal", "reduction")
"""Keys of the architecture section that say what cells are; all others say how they are stacked."""
_POLICY = {
    "weight_bits": "weight",
    "weight_scheme": "scheme",
    "activation_bits": "activation",
    "weight_granularity": "granularity",
    "group_size": "group_size",
    "activation_observer": "observer",
}


class CellSpace(DeclaredSpace):
    """What both kinds of cells share: they can be taken to another network."""

    document: CellDocument

    def __init__(self, document: CellDocument, name: str) -> None:
        self.document = document
        self.name = document.name or name

    def transfer(self, arch: Mapping[str, Value], **skeleton: object) -> tuple[Self, Architecture]:
        """The cells of an architecture stacked to another network: search small, use large.

        `arch` is an `Architecture` of this space, or the values of one by choice name, as results and tables hold
        them. `skeleton` are keys of the architecture section (``cells=6, width=32``) or of the document (`input`,
        `classes`, `quantization`, `recipe`). Gives the space with this skeleton, and in it the architecture whose
        choices are those of `arch`, as far as they are open still. A part that only the new network has gets the
        quantization of the part beside it.

        Raises:
            SpecError: for a key that does not belong to the skeleton, or a value that is not allowed; for
                anything that is no architecture of this space.
        """
        arch = self._own(arch)
        raw = self.document.model_dump()
        architecture: dict[str, Any] = raw["architecture"]
        outer = [k for k in raw if k not in ("family", "name", "architecture")]
        allowed = [*(k for k in architecture if k not in CELLS), *outer]
        for key, value in skeleton.items():
            if key not in allowed:
                message = f"is not of the skeleton; allowed: {', '.join(allowed)}{did_you_mean(key, allowed)}"
                raise SpecError.at(key, message)
            (raw if key in outer else architecture)[key] = value
        try:
            space = type(self)(CellDocument.model_validate(raw), self.name)
        except ValidationError as error:
            raise spec_error(error, CellDocument, raw) from None
        check_groups(space)
        values = {c.name: self._value(arch, c.name, c.values) for c in space.choices}
        return space, space.canonical(space.architecture(values))

    def _own(self, arch: object) -> Architecture:
        if isinstance(arch, Architecture) and tuple(arch.choices) == self.choices:
            return arch
        if isinstance(arch, Mapping):
            return self.architecture(arch)
        message = f"{show(arch)} is not allowed; allowed: an Architecture of {self.name}, or values by choice name"
        raise SpecError.at("architecture", message)

    def _value(self, arch: Architecture, choice: str, allowed: tuple[Value, ...]) -> Value:
        """What a choice of another network takes from `arch`; the first value allowed where it takes nothing."""
        value: Value | None = None
        part, _, kind = choice.removeprefix("quantization.").rpartition(".")
        if any(choice == c.name for c in self.choices):
            value = arch[choice]
        elif choice.startswith("quantization."):
            value = getattr(self._policy.part(part), _POLICY[kind]).of(arch.genes)
        return value if value in allowed else allowed[0]
