"""How an evaluator says that the candidate itself is at fault."""

from __future__ import annotations


class Infeasible(Exception):  # noqa: N818 -- named as the state of the trial that it leads to
    """The candidate cannot be measured, with the reason in one line; it is never tried again."""
