"""How to look: the searchers, as a closed union of their settings."""

from typing import Annotated, TypeAlias

from pydantic import Field

from nas.searchers.nsga2 import Nsga2Config
from nas.searchers.predictor_guided import PredictorGuidedConfig
from nas.searchers.random import RandomConfig
from nas.searchers.regularized_evolution import RegularizedEvolutionConfig

SearcherConfig: TypeAlias = Annotated[
    RandomConfig | RegularizedEvolutionConfig | Nsga2Config | PredictorGuidedConfig,
    Field(discriminator="kind"),
]
"""Settings of a searcher; the key `kind` tells which."""
