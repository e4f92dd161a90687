"""HTTP: jobs, trials, Pareto fronts and spaces under `/v1`. It reads and writes rows and has no rules."""

from api.app import create_app

__all__ = ["create_app"]
