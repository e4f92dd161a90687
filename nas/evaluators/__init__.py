"""How to measure: the evaluators, as a closed union of their settings."""

from typing import Annotated, TypeAlias

from pydantic import Field

from nas.evaluators.callable import CallableConfig
from nas.evaluators.cost import CostConfig
from nas.evaluators.latency import LatencyConfig
from nas.evaluators.tabular import TabularConfig
from nas.evaluators.training import TrainingConfig

EvaluatorConfig: TypeAlias = Annotated[
    TrainingConfig | LatencyConfig | CostConfig | TabularConfig | CallableConfig,
    Field(discriminator="kind"),
]
"""Settings of an evaluator; the key `kind` tells which."""
