"""One study of Optuna as a fold over finished trials; imported only where a sampler of Optuna is asked for.

Every finished trial is entered in the order of finishing. A proposal is drawn by a sampler made for it, with its
own seed, from the study as it stands with the running trials added; all that asking leaves behind is taken back.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState as State

from nas.objectives import Problem
from nas.searchers.history import History
from nas.searchers.selection import crowding, ranks
from nas.trial import Proposal, Trial
from search_spaces.architecture import Genes
from search_spaces.operators import mutate
from search_spaces.space import Space

if TYPE_CHECKING:
    from nas.searchers.optuna import OptunaConfig

Distributions: TypeAlias = dict[str, BaseDistribution]
"""What parameters there are, and their values."""
QUIET = {"warn_independent_sampling": False}
SAMPLERS: dict[str, tuple[Callable[..., BaseSampler], dict[str, Any]]] = {
    "tpe": (optuna.samplers.TPESampler, {"multivariate": True, "constant_liar": True, **QUIET}),
    "nsga2": (optuna.samplers.NSGAIISampler, {}),
    "nsga3": (optuna.samplers.NSGAIIISampler, {}),
    "gp": (optuna.samplers.GPSampler, QUIET),
    "cmaes": (optuna.samplers.CmaEsSampler, QUIET),
    "qmc": (optuna.samplers.QMCSampler, {"scramble": True, **QUIET}),
    "random": (optuna.samplers.RandomSampler, {}),
}
"""The class of each, and where we differ from its defaults."""
KEEPS_BOOKS = frozenset({"nsga2", "nsga3", "cmaes", "qmc"})
"""These write into the study when they are asked (generations, a covariance, an index), so past trials are asked
for again, with their genes given."""
EFFORT, LEAST = 20_000, 100
"""The others look at every choice of every trial whenever they are asked, and at ten things more. Once they know
`EFFORT` of these, or `LEAST` trials, they keep half of the trials: the latest, and the best."""
OURS = ("seed", "constraints_func", "warn_independent_sampling")
"""Arguments that are not the user's to give."""
DRAWS = 4
"""Proposals of the sampler that may be known already before neighbours of the last one are tried."""
BATCH = 8
INFEASIBLE = 1e30
"""Greater than any loss: CMA-ES sorts by values and knows no constraints."""


def sampler(config: OptunaConfig, seed: int, together: Distributions) -> BaseSampler:
    """A fresh sampler. Raises `TypeError` or `ValueError` for options that it does not take.

    `together`: the parameters that it draws at once. All of ours are known beforehand; Optuna would compare every
    trial's with every other's.
    """
    made, defaults = SAMPLERS[config.sampler]
    arguments = {**defaults, **config.options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some arguments are marked experimental
        out = made(**arguments, seed=seed)
    one_by_one = config.sampler == "tpe" and (not arguments["multivariate"] or arguments.get("group"))
    if config.sampler != "random" and not one_by_one:
        out.infer_relative_search_space = lambda study, trial: together  # type: ignore[method-assign]
    return out


def refusal(config: OptunaConfig) -> str | None:
    """Why the sampler does not take its options, in one line; None where it does."""
    made = SAMPLERS[config.sampler][0]
    known = [name for name in inspect.signature(made).parameters if name not in OURS]
    unknown = [name for name in config.options if name not in known]
    if unknown:
        return f"{unknown[0]!r} is not an option of {config.sampler}; allowed: {', '.join(known) or 'none'}"
    try:
        sampler(config, 0, {})
    except (TypeError, ValueError) as error:
        return " ".join(str(error).split())
    return None


class OptunaSearcher:
    """Genes as Optuna's parameters: an integer where the values are ordered numbers, else a category."""

    def __init__(self, config: OptunaConfig, space: Space, problem: Problem, seed: int) -> None:
        self._config, self._space, self._problem, self._seed = config, space, problem, seed
        self._history = History(space)
        numeric = config.sampler == "cmaes"  # which would draw categories at random
        self._distributions: Distributions = {
            c.name: IntDistribution(0, len(c.values) - 1)
            if c.ordered or numeric
            else CategoricalDistribution(tuple(range(len(c.values))))
            for c in space.choices
        }
        drawn = config.options.get("n_startup_trials", 0)  # below so many the sampler draws at random
        self._most = max(LEAST, EFFORT // (10 + len(space.choices)), 4 * int(drawn))
        self._together = {name: d for name, d in sorted(self._distributions.items()) if not d.single()}
        self._clear()

    def ask(self, n: int) -> Sequence[Proposal]:
        """Up to `n` proposals of the sampler; where it repeats itself, new neighbours of what it proposes."""
        if n < 1:
            return []
        taken: set[bytes] = set()
        rows: list[Genes] = []
        with self._storage.taken_back():
            for trial in self._history.running():
                self._enter(trial)
            for number in range(self._history.next_number, self._history.next_number + n):
                row = self._history.novel(self._drawing(), np.random.default_rng([self._seed, number]), taken)
                if row is None:
                    break
                rows.append(row)
        return [Proposal(a) for a in self._space.canonical_architectures(np.concatenate(rows))] if rows else []

    def tell(self, trials: Iterable[Trial]) -> None:
        """Measured trials enter the study; Optuna's samplers have no use for others."""
        finished, again = self._history.tell(trials)
        if again:
            self._clear()
        for trial in finished:
            if trial.measured:
                self._keep([trial])
            if len(self._known) == self._most and self._config.sampler not in KEEPS_BOOKS:
                kept = _kept(self._problem, self._known)
                self._clear()
                self._keep(kept)

    def _keep(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self._enter(trial)
        self._known.extend(trials)

    def _clear(self) -> None:
        self._known: list[Trial] = []
        self._storage = Storage()
        goals = [StudyDirection.MINIMIZE] * len(self._problem.objectives)
        with _quiet():
            self._study = optuna.create_study(storage=self._storage, directions=goals)

    def _drawing(self) -> Callable[[np.random.Generator], Genes]:
        """Draws for one trial. A repeat stays in the study as running, so that the sampler looks elsewhere."""
        sampled: list[Genes] = []

        def draw(rng: np.random.Generator) -> Genes:
            if len(sampled) == DRAWS:
                return mutate(self._space, np.repeat(sampled[-1], BATCH, axis=0), rng)
            self._study.sampler = self._sampler(rng)
            params = self._study.ask(self._distributions).params
            genes = np.array([[params[c.name] for c in self._space.choices]], dtype=np.int64)
            sampled.append(self._space.canonical_genes(genes))
            return sampled[-1]

        return draw

    def _sampler(self, rng: np.random.Generator) -> BaseSampler:
        if self._config.sampler == "qmc":  # one sequence for the whole search
            rng = np.random.default_rng(self._seed)
        return sampler(self._config, int(rng.integers(2**31)), self._together)

    def _enter(self, trial: Trial) -> None:
        """A trial, measured or running, as the study's last."""
        params = self._params(trial)
        values, excesses = self._values(trial) if trial.measured else (None, {})
        if self._config.sampler not in KEEPS_BOOKS:
            state = State.COMPLETE if trial.measured else State.RUNNING
            made = optuna.trial.create_trial(
                state=state, values=values, params=params, distributions=self._distributions, constraints=excesses
            )
            self._study.add_trial(made)
            return
        self._study.sampler = self._sampler(np.random.default_rng([self._seed, trial.number]))
        self._study.enqueue_trial(params)
        entered = self._study.ask(self._distributions)
        _drawn = entered.relative_params  # not used: samplers write their notes when they draw
        for name, excess in excesses.items():
            entered.set_constraint(name, excess)
        if values is not None:
            self._study.tell(entered, values)

    def _params(self, trial: Trial) -> dict[str, Any]:
        """Genes by name. Those without effect are random: a constant would look like a preference."""
        genes = self._space.genes([trial.architecture])
        any_value = np.random.default_rng([self._seed, trial.number, 1]).integers(0, self._space.sizes)
        filled = np.where(self._space.active(genes), genes, any_value)[0].tolist()
        return dict(zip(self._distributions, filled, strict=True))

    def _values(self, trial: Trial) -> tuple[list[float], dict[str, float]]:
        losses = list(self._problem.losses(trial.metrics))
        if self._config.sampler == "cmaes":
            violation = self._problem.violation(trial.metrics)
            return ([INFEASIBLE * (1 + violation)] if violation else losses), {}
        return losses, {str(c): c.excess(trial.metrics[c.metric]) for c in self._problem.constraints}


class Storage(InMemoryStorage):  # type: ignore[misc, unused-ignore]
    """One study in memory that can forget."""

    @contextmanager
    def taken_back(self) -> Iterator[None]:
        """What is written inside is forgotten: trials that were added, and notes of samplers about the study."""
        (study,) = self._studies.values()
        count, notes = len(study.trials), study.system_attrs
        try:
            yield
        finally:
            for trial in study.trials[count:]:
                del self._trial_id_to_study_id_and_number[trial._trial_id]
            del study.trials[count:]
            study.system_attrs = notes
            self._max_trial_id = count - 1
            self._prev_waiting_trial_number = dict.fromkeys(self._prev_waiting_trial_number, count)


def _kept(problem: Problem, trials: Sequence[Trial]) -> list[Trial]:
    """The latest quarter of measured trials, and as many of the best of the others, in order."""
    losses = np.array([problem.losses(t.metrics) for t in trials])
    rank = ranks(losses, np.array([problem.violation(t.metrics) for t in trials]))
    order = np.lexsort((-crowding(losses, rank), rank))
    latest = len(trials) - len(trials) // 4
    return [*(trials[i] for i in np.sort(order[order < latest][: len(trials) // 4])), *trials[latest:]]


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells of every new study on the console."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
