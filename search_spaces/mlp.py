"""The `mlp` family: residual multi-layer perceptrons on flattened images.

The input is projected to a latent width, by a learned or a fixed random matrix; blocks add ``W2 act(W1 z)`` to the
latent vector z; a linear layer classifies. A hidden width above the latent one makes the conventional
narrow-wide-narrow block, one below it the wide-narrow-wide block of an hourglass.

In a ``parallel`` stage all blocks read what the stage reads, and what they add is summed (the first-order form of
a residual network); in a ``serial`` one each reads the sum so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from typing_extensions import override

from search_spaces.declared import DeclaredSpace, ImageSection
from search_spaces.document import Section
from search_spaces.domains import Domain, Value, choice, integer, varied
from search_spaces.feature import Feature, both
from search_spaces.network import Network, one_of, optional, residual
from search_spaces.operations import Activation, Dropout, Flatten, LayerNorm, Linear
from search_spaces.quantization import Part, add_policy
from search_spaces.recipe import add_recipe
from search_spaces.staged_document import ACTIVATIONS, MAX_BLOCKS
from search_spaces.variables import Values, Variable, Variables

MAX_ENTRIES = 2**24


class MlpStageSection(Section):
    """Blocks one after the other or side by side; one block, unless `depth` says more."""

    hidden: varied(integer(1, 65536))  # type: ignore[valid-type]
    """Width inside a block."""
    depth: varied(integer(1, 128)) = Domain((1,))  # type: ignore[valid-type]
    """Number of blocks."""
    per: Literal["stage", "block"] = Field(
        default="stage", description="whether the hidden width is chosen once, or for every block"
    )
    topology: choice("serial", "parallel") = Domain(("serial",))  # type: ignore[valid-type]
    """Whether blocks read the sum so far, or all what the stage reads."""


class MlpArchitectureSection(Section):
    """The latent width, and the stages that work on it."""

    latent: varied(integer(1, 65536))  # type: ignore[valid-type]
    """Width of the vector that blocks add to."""
    projection: choice("learned", "random") = Domain(("learned",))  # type: ignore[valid-type]
    """From the input to the latent width: learned, or a fixed random matrix."""
    activation: choice(*ACTIVATIONS) = Domain(("gelu",))  # type: ignore[valid-type]
    """Inside the blocks."""
    norm: choice("none", "layer") = Domain(("none",))  # type: ignore[valid-type]
    """Before each block."""
    stages: Annotated[tuple[MlpStageSection, ...], Field(min_length=1, max_length=64)]
    """From the input to the output."""

    @model_validator(mode="after")
    def _bounded(self) -> MlpArchitectureSection:
        blocks = sum(max(int(v) for v in stage.depth.values) for stage in self.stages)
        if blocks > MAX_BLOCKS:
            raise ValueError(f"has up to {blocks} blocks in all; allowed: at most {MAX_BLOCKS}")
        return self


class MlpDocument(ImageSection):
    """A space of residual MLPs."""

    family: Literal["mlp"]
    """Residual multi-layer perceptrons."""
    architecture: MlpArchitectureSection
    """What the networks are."""

    @field_validator("input")
    @classmethod
    def _small(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        entries = value[0] * value[1] * value[2]
        if entries > MAX_ENTRIES:
            raise ValueError(f"{list(value)} has {entries} entries in all; allowed: at most {MAX_ENTRIES}")
        return value


@dataclass(frozen=True)
class _Stage:
    """The variables of one stage."""

    path: str
    depth: Variable
    topology: Variable
    hidden: tuple[Variable, ...]
    """Of each block position that the stage can fill."""


class MlpSpace(DeclaredSpace):
    """Networks of an `MlpDocument`."""

    document: MlpDocument

    def __init__(self, document: MlpDocument, name: str = "mlp") -> None:
        self.document = document
        self.name = document.name or name
        section = document.architecture
        variables = Variables()
        self._latent = variables.add("latent", section.latent)
        self._projection = variables.add("projection", section.projection)
        self._stages = tuple(_add_stage(variables, f"stages.{i}", s) for i, s in enumerate(section.stages))
        self._activation = variables.add("activation", section.activation)
        self._norm = variables.add("norm", section.norm)
        self._policy = add_policy(
            variables, document.quantization, _parts(self._stages, document.quantization.per)
        )
        self._recipe = add_recipe(variables, document.recipe)
        self.choices = variables.choices

    @override
    def write(self, net: Network, of: Values) -> Feature:
        x = net.apply(Flatten(), net.start(Feature(*self.document.input)))
        latent = of[self._latent]
        learned, fixed = Linear(latent), Linear(latent, bias=False, learned=False)
        cases = [("learned", learned), ("random", fixed)]
        x = one_of(
            net,
            [(of.among(self._projection, k), lambda o=o: net.layer("projection", o, x)) for k, o in cases],  # type: ignore[misc]
        )
        last, before = max(sum(len(stage.hidden) for stage in self._stages) - 1, 1), 0
        for stage in self._stages:
            x = self._write_stage(net, of, stage, x, [(before + i) / last for i in range(len(stage.hidden))])
            before += len(stage.hidden)
        if net.training.dropout:
            x = net.layer("dropout", Dropout(net.training.dropout), x)
        return net.layer("classifier", Linear(self.document.classes), x)

    def _write_stage(
        self, net: Network, of: Values, stage: _Stage, first: Feature, depths: Sequence[float]
    ) -> Feature:
        """The blocks of one stage; `depths` say how far down the network, 0 to 1, each of them stands."""
        x = first
        for position, depth in enumerate(depths):

            def block(z: Feature, position: int = position, depth: float = depth) -> Feature:
                path = f"{stage.path}.{position}."
                apart = both(of.among(stage.topology, "parallel"), position > 0)
                branch = self._write_branch(net, of, path, stage.hidden[position], net.select(apart, first, z))
                return residual(net, path, z, branch, True, depth)

            x = optional(net, of[stage.depth] > position, x, block)
        return x

    def _write_branch(self, net: Network, of: Values, path: str, hidden: Variable, z: Feature) -> Feature:
        y = optional(net, of.among(self._norm, "layer"), z, lambda f: net.layer(f"{path}norm", LayerNorm(), f))
        y = net.layer(f"{path}fc1", Linear(of[hidden]), y)
        y = net.apply(Activation(of.word(self._activation)), y)
        return net.layer(f"{path}fc2", Linear(z.channels), y)


def _add_stage(variables: Variables, path: str, section: MlpStageSection) -> _Stage:
    depth = variables.add(f"{path}.depth", section.depth)
    topology = variables.add(f"{path}.topology", section.topology, _deeper(depth, 1))
    count = max(int(d) for d in depth.values)
    if section.per == "stage":
        hidden = [variables.add(f"{path}.hidden", section.hidden)] * count
    else:
        hidden = [variables.add(f"{path}.{i}.hidden", section.hidden, _deeper(depth, i)) for i in range(count)]
    return _Stage(path, depth, topology, tuple(hidden))


def _deeper(depth: Variable, position: int) -> dict[Variable, list[Value]]:
    return {depth: [d for d in depth.values if int(d) > position]}


def _parts(stages: Sequence[_Stage], per: str) -> list[Part]:
    """The parts that have a policy of their own: projection, stages, blocks or their layers, classifier."""
    found = [Part("projection", {})]
    for stage in stages:
        if per == "stage":
            found.append(Part(stage.path, {}))
            continue
        layers = (".fc1", ".fc2") if per == "module" else ("",)
        for position in range(len(stage.hidden)):
            found += [Part(f"{stage.path}.{position}{layer}", _deeper(stage.depth, position)) for layer in layers]
    return [*found, Part("classifier", {})]
