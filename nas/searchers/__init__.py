"""How to look: the searchers, as a closed union of their settings."""

from typing import Annotated, TypeAlias

from pydantic import Field

from nas.searchers.banded_evolution import BandedEvolutionConfig
from nas.searchers.linas import LinasConfig
from nas.searchers.local_search import LocalSearchConfig
from nas.searchers.nars import NarsConfig
from nas.searchers.nsga2 import Nsga2Config
from nas.searchers.optuna import OptunaConfig
from nas.searchers.predictor_guided import PredictorGuidedConfig
from nas.searchers.random import RandomConfig
from nas.searchers.regularized_evolution import RegularizedEvolutionConfig

SearcherConfig: TypeAlias = Annotated[
    RandomConfig
    | RegularizedEvolutionConfig
    | LocalSearchConfig
    | Nsga2Config
    | BandedEvolutionConfig
    | LinasConfig
    | NarsConfig
    | PredictorGuidedConfig
    | OptunaConfig,
    Field(discriminator="kind"),
]
"""Settings of a searcher; the key `kind` tells which."""
