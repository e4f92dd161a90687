"""The variables of the `staged` family, and the parts that a quantization policy may tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search_spaces.domains import Domain, Value
from search_spaces.quantization import Part
from search_spaces.staged_document import DEPTHWISE, RESNET, StagedArchitectureSection, StageSection
from search_spaces.variables import Variable, Variables

_When = Mapping[Variable, Sequence[Value]]


@dataclass(frozen=True)
class BlockGenes:
    """The variables that blocks of one stage need not share."""

    kernel: Variable
    expansion: Variable
    bottleneck: Variable


@dataclass(frozen=True)
class StageGenes:
    """The variables of one stage."""

    path: str
    section: StageSection
    depth: Variable
    block: Variable
    width: Variable
    group_width: Variable
    squeeze_excite: Variable
    activation: Variable
    stride: Variable
    topology: Variable
    blocks: tuple[BlockGenes, ...]
    """Of each block position that the stage can fill."""

    @property
    def max_depth(self) -> int:
        """Number of those positions."""
        return len(self.blocks)

    def deeper(self, position: int) -> _When:
        """Where the stage has a block at `position`."""
        return _deeper(self.depth, position)


def add_stage(variables: Variables, path: str, section: StageSection) -> StageGenes:
    """The variables of one stage."""
    depth = variables.add(f"{path}.depth", section.depth)
    there: _When = {depth: [d for d in depth.values if d != 0]}
    block = variables.add(f"{path}.block", section.block, there)

    def add(name: str, domain: Domain, when: _When) -> Variable:
        return variables.add(f"{path}.{name}", domain, when)

    def kernel(name: str, domain: Domain, position: int) -> Variable:
        return add(name, domain, _deeper(depth, position))

    def expansion(name: str, domain: Domain, position: int) -> Variable:
        return add(name, domain, {**_deeper(depth, position), block: ["inverted_residual"]})

    def bottleneck(name: str, position: int) -> Variable:
        return add(name, section.bottleneck, {**_deeper(depth, position), block: ["bottleneck"]})

    width = add("width", section.width, there)
    count, own = max(int(d) for d in depth.values), section.first
    if section.per == "block":
        blocks = [
            BlockGenes(
                kernel(f"{i}.kernel", (own.kernel if i == 0 else None) or section.kernel, i),
                expansion(f"{i}.expansion", (own.expansion if i == 0 else None) or section.expansion, i),
                bottleneck(f"{i}.bottleneck", i),
            )
            for i in range(count)
        ]
    else:
        ratio = bottleneck("bottleneck", 0)
        rest = BlockGenes(
            kernel("kernel", section.kernel, 0 if own.kernel is None else 1),
            expansion("expansion", section.expansion, 0 if own.expansion is None else 1),
            ratio,
        )
        first = BlockGenes(
            rest.kernel if own.kernel is None else kernel("first.kernel", own.kernel, 0),
            rest.expansion if own.expansion is None else expansion("first.expansion", own.expansion, 0),
            ratio,
        )
        blocks = [first, *[rest] * (count - 1)][:count]
    # with a shortcut, two blocks in parallel are the same as in series
    together = all(kind in section.residual_blocks for kind in block.values)
    return StageGenes(
        path=path,
        section=section,
        depth=depth,
        block=block,
        width=width,
        group_width=add("group_width", section.group_width, {**there, block: [*DEPTHWISE, "bottleneck"]}),
        squeeze_excite=add("squeeze_excite", section.squeeze_excite, {**there, block: [*DEPTHWISE, *RESNET]}),
        activation=add("activation", section.activation, there),
        stride=add("stride", section.stride, there),
        topology=add("topology", section.topology, _deeper(depth, 2 if together else 1)),
        blocks=tuple(blocks),
    )


def _deeper(depth: Variable, position: int) -> _When:
    return {depth: [d for d in depth.values if int(d) > position]}


def parts(section: StagedArchitectureSection, stages: Sequence[StageGenes], per: str) -> list[Part]:
    """The parts that have a policy of their own: stem, stages, blocks or their layers, head."""
    found = [Part("stem", {})]
    for stage in stages:
        if per == "stage" and stage.max_depth:
            found.append(Part(stage.path, stage.deeper(0)))
        for position in range(stage.max_depth if per != "stage" else 0):
            name, when = f"{stage.path}.{position}", stage.deeper(position)
            if per == "layer":
                found.append(Part(name, when))
            else:
                found += [Part(f"{name}.{m}", w) for m, w in _modules(section, stage, position, when)]
    return [*found, Part("head", {})]


def _modules(
    section: StagedArchitectureSection, stage: StageGenes, position: int, when: _When
) -> list[tuple[str, _When]]:
    """The layers that a block may have, and where each is there."""
    expansion = stage.blocks[position].expansion
    grows = [v for v in expansion.values if section.always_expand or float(v) > 1]
    excited = {stage.squeeze_excite: [True]}
    found: dict[str, _When] = {
        "conv": {stage.block: ["conv"]},
        "expand": {stage.block: ["inverted_residual"], expansion: grows},
        "depthwise": {stage.block: DEPTHWISE},
        "squeeze": {stage.block: [*DEPTHWISE, *RESNET], **excited},
        "excite": {stage.block: [*DEPTHWISE, *RESNET], **excited},
        "project": {stage.block: DEPTHWISE},
        "conv1": {stage.block: RESNET},
        "conv2": {stage.block: RESNET},
        "conv3": {stage.block: ["bottleneck"]},
    }
    possible = {name: {**when, **own} for name, own in found.items()}
    return [
        (name, own)
        for name, own in possible.items()
        if all(set(variable.values) & set(values) for variable, values in own.items())
    ]
