"""What a network promises before it is trained: scores from one batch of examples, at initialisation."""

from predictors.zero_cost.cached import ZeroCost, consensus
from predictors.zero_cost.kinds import Proxy

__all__ = ["Proxy", "ZeroCost", "consensus"]
