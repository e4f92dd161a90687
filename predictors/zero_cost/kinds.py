"""The scores there are."""

from enum import StrEnum


class Proxy(StrEnum):
    """A score that needs no training; see `predictors.zero_cost.proxies` for what each is."""

    PARAMS = "params"
    MACS = "macs"
    NASWOT = "naswot"
    SYNFLOW = "synflow"
    SNIP = "snip"
    GRAD_NORM = "grad_norm"
    ZEN = "zen"
    JACOBIAN = "jacobian"


COUNTS = frozenset({Proxy.PARAMS, Proxy.MACS})
"""Known from formulas, where the space has them."""
LABELLED = frozenset({Proxy.SNIP, Proxy.GRAD_NORM})
"""Need the labels of the examples."""
