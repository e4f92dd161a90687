"""The `recipe` section: how a network is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from search_spaces.document import Section
from search_spaces.domains import Domain, choice, integer, later, real, varied
from search_spaces.variables import Variable, Variables


def _fixed(value: str | float) -> Domain:
    return Domain((value,))


class RecipeSection(Section):
    """Training hyper-parameters; each may be a value or a choice. Defaults are fixed values."""

    optimizer: choice("adamw", "sgd", "rmsprop") = _fixed("adamw")  # type: ignore[valid-type]
    """``sgd`` has Nesterov momentum 0.9, ``rmsprop`` decay and momentum 0.9."""
    learning_rate: varied(real(0, above=True)) = _fixed(3e-3)  # type: ignore[valid-type]
    """At the start of the schedule."""
    weight_decay: varied(real(0)) = _fixed(1e-4)  # type: ignore[valid-type]
    """Pull of weights towards zero."""
    schedule: choice("cosine", "constant", "linear") = _fixed("cosine")  # type: ignore[valid-type]
    """How the learning rate goes down to 0, if at all."""
    label_smoothing: varied(real(0, 1, below=True)) = _fixed(0.0)  # type: ignore[valid-type]
    """Share of a label that is spread over all classes."""
    dropout: varied(real(0, 1, below=True)) = _fixed(0.0)  # type: ignore[valid-type]
    """Rate before the classifier."""
    stochastic_depth: varied(real(0, 1, below=True)) = _fixed(0.0)  # type: ignore[valid-type]
    """Drop rate of the last residual branch; that of the others rises linearly to it."""
    ema_decay: varied(real(0, 1, below=True)) = _fixed(0.0)  # type: ignore[valid-type]
    """Decay a step of the average of the weights that is used in the end; 0: off."""
    mixup: varied(real(0)) = _fixed(0.0)  # type: ignore[valid-type]
    """Alpha of the Beta distribution that mixes pairs of examples; 0: off."""
    epochs: varied(integer(1)) | None = None  # type: ignore[valid-type]
    """Passes through the training data; left out: the evaluator's own number."""
    batch_size: varied(integer(1)) = _fixed(64)  # type: ignore[valid-type]
    """Examples a step."""
    qat_epochs: varied(integer(0)) = later(0)  # type: ignore[valid-type]
    """Passes of quantization-aware training after that in floating point; without effect where nothing is
    quantized."""
    qat_learning_rate: varied(real(0, above=True)) = later(1e-3)  # type: ignore[valid-type]
    """Of quantization-aware training, at the start of its schedule."""
    sgd_factor: Annotated[float, Field(gt=0, le=1000)] = Field(
        default=1.0, description="of the learning rate where the optimizer is sgd"
    )


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    optimizer: str = "adamw"
    """``adamw`` (Loshchilov and Hutter, 2019), ``sgd`` with Nesterov momentum 0.9, or ``rmsprop`` (decay and
    momentum 0.9)."""
    learning_rate: float = 3e-3
    """At the start; the schedule takes it down to 0 over all steps, unless it is ``constant``."""
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    label_smoothing: float = 0.0
    dropout: float = 0.0
    """Rate before the classifier."""
    stochastic_depth: float = 0.0
    """Drop rate of the last residual branch (Huang et al., 2016); that of the others rises linearly to it."""
    ema_decay: float = 0.0
    """Decay a step of the moving average of the weights that is used in the end; 0 is off."""
    mixup: float = 0.0
    """Alpha of the Beta distribution that mixes pairs of examples (Zhang et al., 2018); 0 is off."""
    epochs: int | None = None
    """None: the evaluator's own number of epochs."""
    batch_size: int = 64
    qat_epochs: int = 0
    """Of quantization-aware training, after the others; 0 is off."""
    qat_learning_rate: float = 1e-3
    """The same at the start of quantization-aware training, which goes through the schedule once more."""


@dataclass(frozen=True)
class RecipeGenes:
    """The recipe genes of a space."""

    variables: Mapping[str, Variable]
    sgd_factor: float
    """Of the learning rate where the optimizer is ``sgd``."""

    def recipe(self, genes: Sequence[int]) -> Recipe:
        """The recipe of one architecture."""
        recipe = Recipe(**{name: variable.of(genes) for name, variable in self.variables.items()})  # type: ignore[arg-type]
        factor = self.sgd_factor if recipe.optimizer == "sgd" else 1.0
        return replace(
            recipe,
            learning_rate=recipe.learning_rate * factor,
            qat_learning_rate=recipe.qat_learning_rate * factor,
        )

    @property
    def quantized(self) -> list[int]:
        """The columns of genes that have an effect only where anything is quantized."""
        columns = (self.variables[name].column for name in ("qat_epochs", "qat_learning_rate"))
        return [column for column in columns if column is not None]


def add_recipe(variables: Variables, section: RecipeSection) -> RecipeGenes:
    """Turn the section into genes."""
    domains = {name: value for name, value in section if isinstance(value, Domain)}
    genes: dict[str, Variable] = {}
    for name, domain in domains.items():
        epochs = genes.get("qat_epochs") if name == "qat_learning_rate" else None
        when = {epochs: [e for e in epochs.values if e != 0]} if epochs else {}
        genes[name] = variables.add(f"recipe.{name}", domain, when)
    return RecipeGenes(genes, section.sgd_factor)
