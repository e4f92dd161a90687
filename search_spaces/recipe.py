"""The `recipe` section: how a network is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search_spaces.document import Section
from search_spaces.domains import Domain, choice, integer, real, varied
from search_spaces.variables import Variable, Variables

_NUMBER = {"type": "number"}
_WHOLE = {"type": "integer", "minimum": 1}


def _fixed(value: str | float) -> Domain:
    return Domain((value,))


class RecipeSection(Section):
    """Training hyper-parameters; each may be a value or a choice. Defaults are fixed values."""

    optimizer: choice("adamw", "sgd") = _fixed("adamw")  # type: ignore[valid-type]
    learning_rate: varied(real(0, above=True), _NUMBER) = _fixed(3e-3)  # type: ignore[valid-type]
    weight_decay: varied(real(0), _NUMBER) = _fixed(1e-4)  # type: ignore[valid-type]
    schedule: choice("cosine", "constant", "linear") = _fixed("cosine")  # type: ignore[valid-type]
    label_smoothing: varied(real(0, 1, below=True), _NUMBER) = _fixed(0.0)  # type: ignore[valid-type]
    mixup: varied(real(0), _NUMBER) = _fixed(0.0)  # type: ignore[valid-type]
    epochs: varied(integer(1), _WHOLE) | None = None  # type: ignore[valid-type]
    batch_size: varied(integer(1), _WHOLE) = _fixed(64)  # type: ignore[valid-type]


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    optimizer: str = "adamw"
    """``adamw`` (Loshchilov and Hutter, 2019) or ``sgd`` with Nesterov momentum 0.9."""
    learning_rate: float = 3e-3
    """At the start; the schedule takes it down to 0 over all steps, unless it is ``constant``."""
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    label_smoothing: float = 0.0
    mixup: float = 0.0
    """Alpha of the Beta distribution that mixes pairs of examples (Zhang et al., 2018); 0 is off."""
    epochs: int | None = None
    """None: the evaluator's own number of epochs."""
    batch_size: int = 64


@dataclass(frozen=True)
class RecipeGenes:
    """The recipe genes of a space."""

    variables: Mapping[str, Variable]

    def recipe(self, genes: Sequence[int]) -> Recipe:
        """The recipe of one architecture."""
        return Recipe(**{name: variable.of(genes) for name, variable in self.variables.items()})  # type: ignore[arg-type]


def add_recipe(variables: Variables, section: RecipeSection) -> RecipeGenes:
    """Turn the section into genes."""
    domains = {name: getattr(section, name) for name in RecipeSection.model_fields}
    return RecipeGenes({name: variables.add(f"recipe.{name}", d) for name, d in domains.items() if d is not None})
