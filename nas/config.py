"""The base of every searcher's and evaluator's settings: frozen, strict, told apart by `kind`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from nas.objectives import Problem
from search_spaces import Fault, Space
from search_spaces.faults import spec_error

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nas.contracts import Evaluator, Searcher
    from predictors.features import Scores
    from predictors.zero_cost import Proxy


class Config(BaseModel):
    """Settings that a document gives."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Document(BaseModel):
    """What a client asks for: frozen, without keys that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a document. Raises `SpecError`, with everything whose form is wrong."""
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise spec_error(error, cls, document) from None


class SearcherSettings(Config, ABC):
    """Settings of one kind of searcher."""

    @abstractmethod
    def build(self, space: Space, problem: Problem, seed: int) -> Searcher:
        """A fresh searcher that has been told nothing."""

    def build_for(self, evaluator: EvaluatorSettings, space: Space, problem: Problem, seed: int) -> Searcher:
        """The same for a job that measures by `evaluator`, which gives it scores where the settings name some."""
        return self.build(space, problem, seed)

    def faults(self, space: Space, problem: Problem) -> list[Fault]:
        """What is wrong with these settings for this space and problem, with paths from the settings' own keys."""
        return []

    def faults_for(self, evaluator: EvaluatorSettings, space: Space) -> list[Fault]:
        """What these settings ask of an evaluator, itself without faults, that it does not give."""
        return []


class EvaluatorSettings(Config, ABC):
    """Settings of one kind of evaluator."""

    @abstractmethod
    def bind(self, space: Space, seed: int) -> Evaluator:
        """The evaluator for architectures of `space`; pickles, and loads what it needs in the worker."""

    @abstractmethod
    def metrics(self) -> frozenset[str] | None:
        """The metrics it gives, or None where only running it can tell."""

    def measures_like(self, other: EvaluatorSettings, *, remote: bool = False) -> bool:
        """Whether metrics by `other` settings may stand beside those by these, as far as settings can tell.

        `remote`: the document came over the network; nothing that it names is imported then.
        """
        return self == other

    def measurements(self) -> int | None:
        """How many measurements of one network can differ by noise; None: as many as one likes."""
        return None

    def scores(self, space: Space, names: Sequence[Proxy], seed: int) -> Scores | None:
        """Zero-cost scores by the data that networks are measured with; None where there are no data.

        Called for settings without faults; reading data and building networks is left to the first use.
        """
        return None

    def faults(self, space: Space) -> list[Fault]:
        """What is wrong with these settings for this space, with paths from the settings' own keys."""
        return []

    @property
    def code(self) -> str | None:
        """The import path of the code that it runs, where the document names one."""
        return None

    def remote_faults(self, functions: Collection[str] = ()) -> list[Fault]:
        """What a client over HTTP may not ask for: paths, and code that is not among `functions`.

        Opens and imports nothing that the settings name.
        """
        return []
