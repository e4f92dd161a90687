"""The `staged` family: a stem, stages of repeated blocks, and a head.

Blocks: ``conv`` (k x k convolution), ``depthwise_separable`` (MobileNet, Howard et al. 2017),
``inverted_residual`` (MobileNetV2, Sandler et al. 2018; with squeeze-and-excitation as in MobileNetV3, Howard et
al. 2019), ``basic`` and ``bottleneck`` (ResNet, He et al. 2016). Every convolution is followed by batch norm. The
first block of a stage has the stage's stride; a stage of depth 0 is not there, its stride neither.

In a ``parallel`` stage all blocks after the first read the first's output, and what they add is summed (the
first-order form of a residual network); in a ``serial`` one each reads the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.alike import Alike, alike
from search_spaces.architecture import Genes
from search_spaces.declared import DeclaredSpace
from search_spaces.domains import Value
from search_spaces.feature import Count, Feature, Mask, at_least, both, divisible, negated, where
from search_spaces.network import Network, conv_norm, one_of, optional, residual, runs
from search_spaces.operations import Activation, Conv, Dropout, GlobalPool, Linear, Pool, Resize, Shrink, same_size
from search_spaces.quantization import add_policy
from search_spaces.recipe import add_recipe
from search_spaces.staged_blocks import BRANCHES, Block, shortcut
from search_spaces.staged_document import RESNET, StagedDocument
from search_spaces.staged_genes import StageGenes, add_stage, parts
from search_spaces.variables import Values, Variable, Variables


class StagedSpace(DeclaredSpace):
    """Networks of a `StagedDocument`."""

    document: StagedDocument

    def __init__(self, document: StagedDocument, name: str = "staged") -> None:
        self.document = document
        self.name = document.name or name
        section = document.architecture
        variables = Variables()
        self._resolution = variables.add("resolution", section.resolution) if section.resolution else None
        self._multiplier = variables.add("width_multiplier", section.width_multiplier)
        self._stem = {k: variables.add(f"stem.{k}", getattr(section.stem, k)) for k in section.stem.VARIED}
        self._inner = self._add_inner(variables)
        self._stages = tuple(add_stage(variables, f"stages.{i}", s) for i, s in enumerate(section.stages))
        head = section.head
        self._head = {k: variables.add(f"head.{k}", getattr(head, k)) for k in ("width", "expansion", "features")}
        self._head["activation"] = variables.add("head.activation", head.activation, self._activated())
        self._policy = add_policy(
            variables, document.quantization, parts(section, self._stages, document.quantization.per)
        )
        self._recipe = add_recipe(variables, document.recipe)
        self.choices = variables.choices
        self._alike = self._equal_widths()

    @override
    def active(self, genes: Genes) -> NDArray[np.bool_]:
        active = super().active(genes)
        varied = [stage for stage in self._stages if stage.topology.column is not None]
        if not varied:
            return active
        of = Values(genes)
        for stage in varied:  # with a shortcut, two blocks in parallel are as in series
            pair = of.among(stage.depth, 2) & of.among(stage.block, *stage.section.residual_blocks)
            active[:, stage.topology.column] &= np.logical_not(pair)
        return active

    @override
    def canonical_genes(self, genes: Genes) -> Genes:
        """Genes without effect at 0, and of widths that round to the same the first."""
        canonical = super().canonical_genes(genes)
        for _ in range(len(self._multiplier.values)):  # every round but the last lowers a multiplier
            for equal in self._alike:
                equal.reset(canonical)
            if self._multiplier.column is None or not self._lower_multiplier(canonical):
                break
        return canonical

    def _lower_multiplier(self, genes: Genes) -> bool:
        """Put the first multiplier that comes to the same widths into the genes; tells whether any changed."""
        column, of, n = self._multiplier.column, Values(genes), len(genes)
        same = np.ones((len(self._multiplier.values), n), dtype=bool)
        for table, width, there in self._scaled_widths(of):
            gene = np.zeros(n, dtype=np.int64) if width.column is None else genes[:, width.column]
            same &= (table[:, gene] == table[genes[:, column], gene]) | np.logical_not(there)
        first = same.argmax(axis=0)
        changed = bool((first != genes[:, column]).any())
        genes[:, column] = first
        return changed

    def _scaled_widths(self, of: Values) -> Iterator[tuple[NDArray[np.int64], Variable, Mask]]:
        """For every width: what it comes to (by multiplier, by value), the width, and where it is there."""
        by = self.document.architecture.round_to
        found: list[tuple[Variable, float, Mask]] = [(self._head["width"], 1.0, True)]
        found += [(v, 0.0, True) for v in (self._stem["width"], self._inner) if v is not None]
        found += [(stage.width, 0.0, of[stage.depth] > 0) for stage in self._stages]
        for width, floor, there in found:
            ms = [max(float(m), floor) for m in self._multiplier.values]
            ws = [int(w) for w in width.values]
            sizes = [[divisible(w * m, by) if w and m != 1 else w for w in ws] for m in ms]
            yield np.array(sizes, dtype=np.int64), width, there

    @override
    def write(self, net: Network, of: Values) -> Feature:
        x = net.start(Feature(*self.document.input))
        if self._resolution is not None:
            x = net.apply(Resize(of[self._resolution], of[self._resolution]), x)
        x = self._write_stem(net, of, x)
        blocks = max(sum(stage.max_depth for stage in self._stages) - 1, 1)
        before = 0
        for stage in self._stages:
            shares = [(before + position) / blocks for position in range(stage.max_depth)]
            x = self._write_stage(net, of, stage, x, shares)
            before += stage.max_depth
        return self._write_head(net, of, x)

    def _add_inner(self, variables: Variables) -> Variable | None:
        """The inner width of the stem, where the document has one: it matters to several convolutions."""
        inner, convolutions = self.document.architecture.stem.inner, self._stem["convolutions"]
        several = [n for n in convolutions.values if n != 1]
        return variables.add("stem.inner", inner, {convolutions: several}) if inner else None

    def _write_stem(self, net: Network, of: Values, x: Feature) -> Feature:
        section, kernel = self.document.architecture.stem, of[self._stem["kernel"]]
        width = self._scaled(of, of[self._stem["width"]])
        count, activation = of[self._stem["convolutions"]], of.word(self._stem["activation"])

        def conv(name: str, out: Count, stride: Count, f: Feature) -> Feature:
            return conv_norm(net, f"stem.{name}", Conv(out, kernel, stride, bias=section.bias), f, activation)

        half = at_least(width // 2, 1) if self._inner is None else self._scaled(of, of[self._inner])
        inner = where(count > 1, half, width)

        def second(f: Feature) -> Feature:
            return residual(net, "stem.", f, conv("conv2", inner, 1, f), section.residual, 0.0)

        x = conv("conv", inner, of[self._stem["stride"]], x)
        x = optional(net, count > 2, x, second)
        x = optional(net, count > 1, x, lambda f: conv("conv3", width, 1, f))
        if section.pool == "max":
            return net.apply(Pool("max", 3, 2), x)
        if section.pool == "conv":
            return conv_norm(net, "stem.pool", Conv(width, 3, 2), x, activation)
        return x

    def _write_stage(
        self, net: Network, of: Values, stage: StageGenes, x: Feature, shares: Sequence[float]
    ) -> Feature:
        """The blocks of one stage; `shares` say how far down the network, 0 to 1, each of them stands."""
        depth, first = of[stage.depth], x
        alike = 2 if "parallel" in stage.topology.values else 1
        alike = alike if stage.section.per == "stage" else stage.max_depth
        for position, times in runs(net, stage.max_depth, depth, alike):
            write = partial(self._write_block, net, of, stage, position, shares[position], first)
            with net.times(times):
                x = optional(net, depth > position, x, write)
            first = x if position == 0 else first
        parallel = both(of.among(stage.topology, "parallel"), depth > 1)
        rectified = both(of.among(stage.block, *RESNET), parallel)
        return optional(net, rectified, x, lambda f: net.apply(Activation(of.word(stage.activation)), f))

    def _write_block(
        self, net: Network, of: Values, stage: StageGenes, position: int, share: float, first: Feature, x: Feature
    ) -> Feature:
        """A block on `x`; in a parallel stage it reads the `first` block's output, and is added to `x`."""
        apart = both(of.among(stage.topology, "parallel"), position > 0)
        source = net.select(apart, first, x)
        block = self._block(of, stage, position)
        if stage.section.downsample == "max_pool" and position == 0:
            source = net.apply(Shrink("max", of[stage.stride]), source)

        def write(kind: str) -> Feature:
            branch = BRANCHES[kind](net, block, source)
            if kind in RESNET:
                base = net.select(apart, x, shortcut(net, block, source, branch))
                y = residual(net, block.path, base, branch, True, share)
                return optional(net, negated(apart), y, lambda f: net.apply(Activation(block.activation), f))
            own = stage.section.residual
            wanted = own if own is not None else kind == "inverted_residual"
            keeps = both(both(same_size(source, branch), block.stride == 1), wanted)
            base = net.select(apart, x, source)
            return residual(net, block.path, base, branch, apart | keeps, share)

        kinds = [str(k) for k in stage.block.values]
        return one_of(net, [(of.among(stage.block, k), partial(write, k)) for k in kinds])

    def _block(self, of: Values, stage: StageGenes, position: int) -> Block:
        genes, section = stage.blocks[position], stage.section
        strided = position == 0 and section.downsample == "stride"
        return Block(
            path=f"{stage.path}.{position}.",
            width=self._scaled(of, of[stage.width]),
            kernel=of[genes.kernel],
            stride=of[stage.stride] if strided else 1,
            group_width=of[stage.group_width],
            padding=section.first.padding if position == 0 else None,
            expansion=of[genes.expansion],
            bottleneck=of[genes.bottleneck],
            excited=of.among(stage.squeeze_excite, True),
            activation=of.word(stage.activation),
            bias=section.bias,
            options=self.document.architecture,
        )

    def _write_head(self, net: Network, of: Values, x: Feature) -> Feature:
        section, activation = self.document.architecture.head, of.word(self._head["activation"])
        width, expansion, features = (of[self._head[k]] for k in ("width", "expansion", "features"))
        out = self._scaled(of, width, floor=1.0)
        out = where(expansion > 0, divisible(x.channels * expansion, self.document.architecture.round_to), out)
        x = optional(
            net,
            (width > 0) | (expansion > 0),
            x,
            lambda f: conv_norm(net, "head.conv", Conv(out), f, activation),
        )
        x = net.apply(GlobalPool(section.pool), x)
        linear = Linear(features, bias=section.features_bias)
        x = optional(
            net,
            features > 0,
            x,
            lambda f: net.apply(Activation(activation), net.layer("head.features", linear, f)),
        )
        if net.training.dropout:
            x = net.layer("dropout", Dropout(net.training.dropout), x)
        return net.layer("classifier", Linear(self.document.classes), x)

    def _equal_widths(self) -> list[Alike]:
        """Choices of widths that come to the same number of channels."""
        by, multiplier = self.document.architecture.round_to, self._multiplier

        def scaled(m: float, width: int, floor: float = 0.0) -> Count:
            return divisible(width * max(m, floor), by) if width and max(m, floor) != 1 else width

        def hidden(m: float, width: int, ratio: float) -> Count:
            return divisible(scaled(m, width) * ratio, by)

        widths = [
            self._stem["width"],
            *([self._inner] if self._inner else []),
            *(stage.width for stage in self._stages),
        ]
        found = [a for width in widths for a in alike(width, [multiplier], scaled)]
        found += alike(self._head["width"], [multiplier], partial(scaled, floor=1.0))
        for stage in self._stages:
            for ratio in dict.fromkeys(genes.bottleneck for genes in stage.blocks):
                found += alike(ratio, [multiplier, stage.width], hidden)
        return found

    def _activated(self) -> dict[Variable, list[Value]]:
        """Where the head has anything to activate."""
        width = self._head["width"]
        always = any(0 not in self._head[k].values for k in ("width", "expansion", "features"))
        chosen = any(len(self._head[k].values) > 1 for k in ("expansion", "features"))
        return {} if always or chosen else {width: [v for v in width.values if v != 0]}

    def _scaled(self, of: Values, width: Count, floor: float = 0.0) -> Count:
        """A width times the multiplier (of at least `floor`), rounded as the document says."""
        multiplier = of[self._multiplier]
        if isinstance(multiplier, float):
            multiplier = max(multiplier, floor)
            return width if multiplier == 1 else divisible(width * multiplier, self.document.architecture.round_to)
        multiplier = at_least(multiplier, floor)
        scaled = divisible(width * multiplier, self.document.architecture.round_to)
        return where(multiplier == 1, width, scaled)
