"""The samplers of Optuna on our spaces (Akiba, Sano, Yanase, Ohta, Koyama: "Optuna", KDD 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from search_spaces import Fault, SpecError
from search_spaces.space import Space

if TYPE_CHECKING:
    from nas.contracts import Searcher

SamplerName: TypeAlias = Literal["tpe", "nsga2", "nsga3", "gp", "cmaes", "qmc", "random"]


class OptunaConfig(SearcherSettings):
    """A sampler of Optuna by its name. CMA-ES takes one objective; a GP costs seconds a trial beyond hundreds.

    TPE and GP look at all that they know whenever they are asked. So of 20,000 / (10 + choices) trials, or of 100,
    they keep half: the latest, and the best.
    """

    kind: Literal["optuna"] = "optuna"
    sampler: SamplerName = Field(default="tpe", description="its name in Optuna")
    options: dict[str, bool | int | float | str] = Field(
        default={}, description="keyword arguments of the sampler, as population_size of nsga2"
    )

    def build(self, space: Space, problem: Problem, seed: int) -> Searcher:
        """A fresh searcher. Raises `SpecError` where the sampler does not take the problem or an option."""
        from nas.searchers.optuna_study import OptunaSearcher  # imports Optuna

        if faults := self.faults(space, problem):
            raise SpecError(faults)
        return OptunaSearcher(self, space, problem, seed)

    def faults(self, space: Space, problem: Problem) -> list[Fault]:
        """Options that the sampler refuses, and several objectives where it takes one."""
        from nas.searchers.optuna_study import refusal

        found = []
        if self.sampler == "cmaes" and len(problem.objectives) > 1:
            several = f"'cmaes' takes one objective, here are {len(problem.objectives)}"
            found.append(Fault("sampler", f"{several}; allowed: tpe, nsga2, nsga3, gp, qmc, random"))
        if reason := refusal(self):
            found.append(Fault("options", reason))
        return found
