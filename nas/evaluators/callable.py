"""Any Python function from an architecture to its metrics."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal

from nas.config import EvaluatorSettings
from nas.evaluators.repeats import numbers
from nas.trial import Proposal
from search_spaces import Architecture, Fault
from search_spaces.faults import show
from search_spaces.space import Space

if TYPE_CHECKING:
    from nas.contracts import Report

Function = Callable[..., Mapping[str, float]]


class CallableConfig(EvaluatorSettings):
    """A function ``f(architecture) -> {metric: value}``, by its import path ``package.module:name``.

    A function that has a second parameter gets the `report` to call with intermediate metrics.
    """

    kind: Literal["callable"] = "callable"
    function: str

    def bind(self, space: Space, seed: int) -> CallableEvaluator:
        """The evaluator; imports the function."""
        return CallableEvaluator(_load(self.function))

    def metrics(self) -> None:
        """Only running the function can tell."""

    def measures_like(self, other: EvaluatorSettings, *, remote: bool = False) -> bool:
        """The same function of a module, by its name.

        Names of lambdas, methods and classes say too little, and every script's module is called ``__main__``.
        What a remote document names is loaded by that very name, whatever it is.
        """
        module, _, name = self.function.partition(":")
        if module == "__main__" or self != other or not name.isidentifier():
            return False
        try:
            return remote or inspect.isroutine(_load(self.function))
        except Exception:  # importing runs the user's code
            return False

    def faults(self, space: Space) -> list[Fault]:
        """Whether the function can be imported."""
        try:
            _load(self.function)
        except Exception as error:  # importing runs the user's code
            hint = "; PYTHONPATH may name its folder" if isinstance(error, ModuleNotFoundError) else ""
            return [Fault("function", f"{self.function!r} cannot be imported: {error}{hint}")]
        return []

    @property
    def code(self) -> str:
        """The function."""
        return self.function

    def remote_faults(self, functions: Collection[str] = ()) -> list[Fault]:
        """A client may name the operator's functions, and no other is ever imported."""
        if not functions:
            allowed = "training, latency, cost, tabular"
            return [Fault("kind", f"'callable' is not allowed over HTTP; allowed: {allowed}")]
        if self.function not in functions:
            allowed = ", ".join(functions)
            return [Fault("function", f"{show(self.function)} is not allowed over HTTP; allowed: {allowed}")]
        return []


class CallableEvaluator:
    """Calls the function."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._takes_report = _positional(function) > 1

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """What the function gives, as floats."""
        architecture: Architecture = proposal.architecture
        found = self._function(architecture, report) if self._takes_report else self._function(architecture)
        return numbers(found)


def reference(function: Function) -> str:
    """The import path of a function, as the document keeps it."""
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}:{name}"


def _load(path: str) -> Function:
    module, _, name = path.partition(":")
    if not name:
        raise ValueError("allowed: package.module:name")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{path} is not callable")
    function: Function = found
    return function


def _positional(function: Function) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # builtins may have no signature
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)
