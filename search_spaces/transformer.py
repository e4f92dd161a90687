"""The `transformer` family: encoders of images and of text.

For images: patches, a class token and learned positions (ViT, Dosovitskiy et al. 2021; DeiT, Touvron et al.
2021), after convolutions where wanted, in stages of fewer and wider tokens (ViT-ResNAS, Liao et al. 2021).
For text: words, positions and segments (BERT, Devlin et al. 2019); the network reads word numbers of shape
(batch, length), one text an example, without padding.

In a ``parallel`` stage every block reads what the stage reads, and what the blocks add to it is summed; in a
``serial`` one each reads the one before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from search_spaces.architecture import Genes
from search_spaces.declared import DeclaredSpace
from search_spaces.feature import Count, Feature, at_least, both, simplified, where, whole
from search_spaces.network import Network, conv_norm, one_of, optional
from search_spaces.operations import (
    Activation,
    Add,
    AverageTokens,
    ClassToken,
    Conv,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    Positions,
    Resize,
    Segments,
    Subtract,
    TokenHead,
    Tokens,
    ToTokens,
)
from search_spaces.quantization import add_policy
from search_spaces.recipe import add_recipe
from search_spaces.transformer_blocks import EPSILON, Block, block, reduce
from search_spaces.transformer_document import ImageEncoderSection, TextTransformerDocument, TransformerDocument
from search_spaces.transformer_genes import StageGenes, add_stage, parts
from search_spaces.variables import Values, Variable, Variables


class TransformerSpace(DeclaredSpace):
    """Networks of a `TransformerDocument` or a `TextTransformerDocument`."""

    document: TransformerDocument | TextTransformerDocument

    def __init__(self, document: TransformerDocument | TextTransformerDocument, name: str = "transformer") -> None:
        self.document = document
        self.name = document.name or name
        section, variables = document.architecture, Variables()
        self._stem = _add_stem(variables, section) if isinstance(section, ImageEncoderSection) else {}
        self._stages = tuple(add_stage(variables, f"stages.{i}", s) for i, s in enumerate(section.stages))
        self._pool = variables.add("head.pool", section.head.pool)
        found = parts(section, self._stages, self._pool, document.quantization.per)
        self._policy = add_policy(variables, document.quantization, found)
        self._recipe = add_recipe(variables, document.recipe)
        self.choices = variables.choices

    @override
    def active(self, genes: Genes) -> NDArray[np.bool_]:
        active = super().active(genes)
        of = Values(genes)
        for stage in self._stages:
            if stage.topology.column is not None:  # one block alone is neither serial nor parallel
                active[:, stage.topology.column] &= stage.count(of) > 1
        return active

    @override
    def write(self, net: Network, of: Values) -> Feature:
        norm, classed = self.document.architecture.norm, of.among(self._pool, "class_token")
        if isinstance(self.document, TransformerDocument):
            x, grid = self._write_patches(net, of)
        else:
            x = grid = self._write_words(net, of)
        count = max(sum(len(stage.blocks) for stage in self._stages) - 1, 1)
        before = 0
        for i, stage in enumerate(self._stages):
            if i and stage.width is not None:
                x, grid = reduce(net, f"{stage.path}.reduction", of[stage.width], classed, norm, x, grid)
            depths = [(before + position) / count for position in range(len(stage.blocks))]
            x = self._write_stage(net, of, stage, x, depths)
            before += len(stage.blocks)
        return self._write_head(net, of, x)

    def _write_patches(self, net: Network, of: Values) -> tuple[Feature, Feature]:
        """Tokens of an image, and the map that they make."""
        section = self.document.architecture
        assert isinstance(self.document, TransformerDocument)
        assert isinstance(section, ImageEncoderSection)
        x = net.start(Feature(*self.document.input))
        stem = {name: of[variable] for name, variable in self._stem.items()}
        if section.resolution is not None:
            x = net.apply(Resize(stem["resolution"], stem["resolution"]), x)
        if section.stem.convolutions is not None:
            conv = Conv(stem["width"], 3)
            x = conv_norm(net, "stem.conv1", Conv(stem["width"], 3, stem["stride"]), x, "relu")
            y = conv_norm(net, "stem.conv2", conv, x, "relu")
            x = net.apply(Add(), x, conv_norm(net, "stem.conv3", conv, y, "relu"))
        patch = stem["patch"]
        grid = net.layer("stem.patches", Conv(self._width(of), patch, patch, padding=0, bias=True), x)
        x = optional(
            net,
            of.among(self._pool, "class_token"),
            net.apply(ToTokens(), grid),
            lambda f: net.layer("stem.class_token", ClassToken(), f),
        )
        return net.layer("stem.positions", Positions(), x), grid

    def _write_words(self, net: Network, of: Values) -> Feature:
        """Tokens of a text."""
        assert isinstance(self.document, TextTransformerDocument)
        text, norm = self.document.input, self.document.architecture.norm
        words = net.start(Feature(1, text.length))
        x = net.layer("stem.words", Embedding(text.vocabulary, self._width(of)), words)
        x = net.layer("stem.positions", Positions(text.positions), x)
        if text.segments:
            x = net.layer("stem.segments", Segments(text.segments), x)
        return net.layer("stem.norm", LayerNorm(EPSILON[norm]), x) if norm == "post" else x

    def _write_stage(
        self, net: Network, of: Values, stage: StageGenes, x: Feature, depths: list[float]
    ) -> Feature:
        """The blocks of one stage; `depths` say how far down the network, 0 to 1, each of them stands."""
        parallel = of.among(stage.topology, "parallel")
        if parallel is not False:  # one block alone is neither
            parallel = both(parallel, simplified(stage.count(of) > 1))
        first = x
        for position, depth in enumerate(depths):
            b = self._block(of, stage, position, x.channels, depth)

            def walk(f: Feature, b: Block = b) -> Feature:
                source = net.select(parallel, first, f)
                y = block(net, b, source)
                return optional(net, parallel, y, lambda g: net.apply(Add(), f, net.apply(Subtract(), g, source)))

            x = optional(net, stage.present(of, position), x, walk)
        return x

    def _block(self, of: Values, stage: StageGenes, position: int, width: Count, depth: float) -> Block:
        genes = stage.blocks[position]
        if genes.mlp is not None:
            hidden = of[genes.mlp]
        else:
            assert genes.mlp_ratio is not None
            hidden = at_least(1, whole(width * of[genes.mlp_ratio] + 0.5))
        return Block(
            path=f"{stage.path}.{position}",
            heads=of[genes.heads],
            head_dim=of[genes.head_dim],
            hidden=hidden,
            activation=of.word(stage.activation),
            norm=self.document.architecture.norm,
            depth=depth,
        )

    def _write_head(self, net: Network, of: Values, x: Feature) -> Feature:
        section = self.document.architecture
        if section.norm == "pre":
            x = net.layer("head.norm", LayerNorm(EPSILON["pre"]), x)
        if section.head.token_classifier:
            start = where(of.among(self._pool, "class_token"), 1, 0)
            x = net.layer("auxiliary", TokenHead(self.document.classes, start), x)
        pools = [
            (of.among(self._pool, "class_token"), lambda: net.apply(Tokens(0, alone=True), x)),
            (of.among(self._pool, "mean"), lambda: net.apply(AverageTokens(), x)),
        ]
        y = one_of(net, pools)
        if section.head.pooler:
            y = net.apply(Activation("tanh"), net.layer("head.pooler", Linear(y.channels), y))
        if not section.head.classifier:
            return y
        if net.training.dropout:
            y = net.layer("dropout", Dropout(net.training.dropout), y)
        return net.layer("classifier", Linear(self.document.classes), y)

    def _width(self, of: Values) -> Count:
        """Channels of the first stage."""
        width = self._stages[0].width
        assert width is not None, "the first stage of a document has a width"
        return of[width]


def _add_stem(variables: Variables, section: ImageEncoderSection) -> dict[str, Variable]:
    """The variables of what comes before the tokens of an image."""
    found = {}
    if section.resolution is not None:
        found["resolution"] = variables.add("resolution", section.resolution)
    found["patch"] = variables.add("stem.patch", section.stem.patch)
    if section.stem.convolutions is not None:
        found["width"] = variables.add("stem.convolutions.width", section.stem.convolutions.width)
        found["stride"] = variables.add("stem.convolutions.stride", section.stem.convolutions.stride)
    return found
