"""How an evaluator says that the candidate itself is at fault."""

from __future__ import annotations


class Infeasible(Exception):
    """The candidate cannot be measured, with the reason in one line; it is never tried again."""
