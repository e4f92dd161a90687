"""The variables of the `transformer` family, and the parts that a quantization policy may tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.domains import Domain, Value
from search_spaces.feature import Ints, Mask, both
from search_spaces.quantization import Part
from search_spaces.transformer_document import BlockSection, EncoderSection, ImageEncoderSection, StageSection
from search_spaces.variables import Values, Variable, Variables

MODULES = ("query", "key", "value", "output", "mlp.up", "mlp.down")
_KEPT = Domain((False, True))

_When = Mapping[Variable, Sequence[Value]]


@dataclass(frozen=True)
class BlockGenes:
    """The variables of one block, some of which it may share with others of its stage."""

    heads: Variable
    head_dim: Variable
    mlp: Variable | None
    mlp_ratio: Variable | None
    """What the hidden width is by; None where it is by the other."""
    kept: tuple[Variable, ...]
    """All must be true for the block to be there, in a stage deep enough."""


@dataclass(frozen=True)
class StageGenes:
    """The variables of one stage."""

    path: str
    width: Variable | None
    """None where the tokens stay as they come."""
    depth: Variable
    blocks: tuple[BlockGenes, ...]
    """Of each block position that the stage can fill."""
    activation: Variable
    topology: Variable

    def deeper(self, position: int) -> _When:
        """Where the stage has a block at `position`."""
        return _deeper(self.depth, position, self.blocks[position].kept[-1:])

    def present(self, of: Values, position: int) -> Mask:
        """In which networks of a population it does."""
        there: Mask = of[self.depth] > position
        for kept in self.blocks[position].kept:
            there = both(there, of.among(kept, True))
        return there

    def count(self, of: Values) -> Ints:
        """Number of blocks in every network, shape (n,)."""
        found = np.zeros(of.n, dtype=np.int64)
        for position in range(len(self.blocks)):
            found += self.present(of, position)
        return found


def add_stage(variables: Variables, path: str, section: StageSection) -> StageGenes:
    """The variables of one stage."""
    width = None if section.width is None else variables.add(f"{path}.width", section.width)
    depth = variables.add(f"{path}.depth", section.depths)
    shared = None
    if section.max_depth and section.per == "stage" and not section.blocks:
        shared = _Sizes.add(variables, path, section.block(0), _deeper(depth, 0))
    blocks: list[BlockGenes] = []
    for position in range(section.max_depth):
        kept: tuple[Variable, ...] = ()
        if position in section.removable:  # once one is left out, so are the removable ones right behind it
            before = blocks[-1].kept
            own = variables.add(f"{path}.{position}.kept", _KEPT, _deeper(depth, position, before[-1:]))
            kept = (*before, own)
        there = _deeper(depth, position, kept[-1:])
        sizes = shared or _Sizes.add(variables, f"{path}.{position}", section.block(position), there)
        blocks.append(BlockGenes(sizes.heads, sizes.head_dim, sizes.mlp, sizes.mlp_ratio, kept))
    several = [d for d in depth.values if int(d) > 1]
    return StageGenes(
        path=path,
        width=width,
        depth=depth,
        blocks=tuple(blocks),
        activation=variables.add(f"{path}.activation", section.activation, _deeper(depth, 0)),
        topology=variables.add(f"{path}.topology", section.topology, {depth: several}),
    )


@dataclass(frozen=True)
class _Sizes:
    """The variables that blocks may share."""

    heads: Variable
    head_dim: Variable
    mlp: Variable | None
    mlp_ratio: Variable | None

    @classmethod
    def add(cls, variables: Variables, path: str, section: BlockSection, when: _When) -> _Sizes:
        def one(name: str, domain: Domain | None) -> Variable | None:
            return None if domain is None else variables.add(f"{path}.{name}", domain, when)

        heads, head_dim = one("heads", section.heads), one("head_dim", section.head_dim)
        assert heads is not None
        assert head_dim is not None
        return cls(heads, head_dim, one("mlp", section.mlp), one("mlp_ratio", section.mlp_ratio))


def _deeper(depth: Variable, position: int, kept: tuple[Variable, ...] = ()) -> _When:
    """Where there is a block at `position`; of a run of removable blocks, the last one's condition is enough."""
    return {depth: [d for d in depth.values if int(d) > position], **{k: [True] for k in kept}}


def parts(section: EncoderSection, stages: Sequence[StageGenes], pool: Variable, per: str) -> list[Part]:
    """The parts that have a policy of their own: stem, stages, blocks or their layers, reductions, head."""
    found = [Part("stem", {}, words=not isinstance(section, ImageEncoderSection))]
    for i, stage in enumerate(stages):
        reduces = i > 0 and stage.width is not None
        if per == "stage":
            if reduces or stage.blocks:
                found.append(Part(stage.path, {} if reduces else stage.deeper(0)))
            continue
        if reduces and per == "layer":
            found.append(Part(f"{stage.path}.reduction", {}))
        if reduces and per == "module":
            found.append(Part(f"{stage.path}.reduction.patches", {}))
            if "class_token" in pool.values:
                found.append(Part(f"{stage.path}.reduction.class_token", {pool: ["class_token"]}))
        for position in range(len(stage.blocks)):
            name, when = f"{stage.path}.{position}", stage.deeper(position)
            found += [Part(name, when)] if per == "layer" else [Part(f"{name}.{m}", when) for m in MODULES]
    return [*found, Part("head", {})] if section.head.pooler or section.head.classifier else found
