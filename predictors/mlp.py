"""An ensemble of small neural networks, pretrained on statistics that cost nothing: the predictor of FBNetV3.

Dai et al., "FBNetV3: joint architecture-recipe search using predictor pretraining" (CVPR 2021): an encoder turns
an architecture into an embedding. It first learns, beside a proxy head, to predict free statistics (costs,
zero-cost scores) of many networks that nobody has trained. Then a second head predicts the target from the
embedding, the training recipe and the statistics themselves, at first with the encoder frozen, then together with
it; the loss is Huber's. The members of the ensemble are drawn apart and each leaves out its share of the networks
(Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep ensembles", 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictors.base import GenePredictor, Warp, varies
from predictors.contract import Prediction
from predictors.features import Scale, Scores, ScoreScale, column_choices, cost_features, gene_features
from predictors.threads import one_torch_thread, single_thread
from search_spaces.architecture import Genes
from search_spaces.encodings import counts
from search_spaces.operators import sample
from search_spaces.space import Space

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Layers: TypeAlias = "list[Tensor]"
"""Weights (members, in, out) and offsets (members, 1, out) of one layer after another."""

HIDDEN, EMBEDDING = 128, 64
PRETRAINING_STEPS, BATCH = 400, 256
STEPS = 100
"""With the encoder frozen, and again as many with all weights; on at most `BATCH` networks each."""
RATE, SLOW_RATE, DECAY = 3e-3, 1e-3, 1e-2
CHUNK = 8192


class MlpEnsemble(GenePredictor):
    """`std` joins how far the members disagree with their error on networks that they did not see.

    Choices named ``recipe.*`` enter after the embedding: no statistic depends on them.
    """

    def __init__(
        self, space: Space, scores: Scores | None = None, unlabelled: int = 5000, members: int = 5
    ) -> None:
        """`unlabelled`: networks to pretrain on, 0 for none; `scores` are asked for all of them."""
        super().__init__(space, scores)
        if unlabelled < 0 or members < 2:
            raise ValueError(f"unlabelled is {unlabelled}, members {members}; allowed: integers >= 0 and >= 2")
        self.unlabelled, self.members = unlabelled, members
        self._pretrained: list[_Body] = []  # at most one; a list, so that copies share it

    def _learn(self, genes: Genes, targets: Floats) -> None:
        self._level = targets.mean(axis=0)
        self._columns: list[tuple[Warp, _Learnt] | None] = []
        with one_torch_thread():
            body = self._body(genes)
            self._inputs, known = body.inputs, body.inputs(genes)
            for y, open_to_learn in zip(targets.T, varies(targets), strict=True):
                warp = Warp.of(y) if open_to_learn else None
                self._columns.append((warp, _fitted(body.encoder, known, warp.forward(y))) if warp else None)

    def _body(self, genes: Genes) -> _Body:
        """Pretrained once, at the first fit, as no target has a say in it; without other networks, on `genes`."""
        if not self.unlabelled:
            return _Body.of(self.space, self.scores, genes, self.members)
        if not self._pretrained:
            drawn = sample(self.space, self.unlabelled, np.random.default_rng(0))
            self._pretrained.append(_Body.of(self.space, self.scores, drawn, self.members))
        return self._pretrained[0]

    def _guess(self, genes: Genes) -> Prediction:
        out = Prediction(np.tile(self._level, (len(genes), 1)), np.zeros((len(genes), len(self._level))))
        for start in range(0, len(genes), CHUNK):
            rows = slice(start, start + CHUNK)
            given = self._inputs(genes[rows])
            for i, column in enumerate(self._columns):
                if column:
                    warp, learnt = column
                    out.mean[rows, i], out.std[rows, i] = warp.back(*learnt.guess(given))
        return out


@dataclass(frozen=True)
class _Given:
    """What the networks see of n architectures, all float32: encodings (n, a), recipes and statistics (n, r)."""

    encoded: NDArray[np.float32]
    beside: NDArray[np.float32]
    statistics: NDArray[np.float32]


@dataclass(frozen=True)
class _Inputs:
    """Architectures as inputs, scaled by networks drawn from the space."""

    space: Space
    scores: Scores | None
    score_scale: ScoreScale | None
    encoding: Scale
    recipe: Scale
    statistic: Scale

    @classmethod
    def of(cls, space: Space, scores: Scores | None, drawn: Genes) -> _Inputs:
        scale = ScoreScale.of(scores(drawn)) if scores else None
        encoded, recipe = _encoded(space, drawn)
        statistics = _statistics(space, scores, scale, drawn)
        return cls(space, scores, scale, Scale.of(encoded), Scale.of(recipe), Scale.of(statistics))

    def __call__(self, genes: Genes) -> _Given:
        encoded, recipe = _encoded(self.space, genes)
        statistics = self.statistic(_statistics(self.space, self.scores, self.score_scale, genes))
        statistics *= np.sqrt(max(1, statistics.shape[1]))
        beside = np.concatenate([self.recipe(recipe) * np.sqrt(max(1, recipe.shape[1])), statistics], axis=1)
        encoded = self.encoding(encoded) * np.sqrt(max(1, encoded.shape[1]))
        return _Given(*(np.clip(a, -5, 5).astype(np.float32) for a in (encoded, beside, statistics)))


@dataclass(frozen=True)
class _Body:
    """What fits begin with: how architectures are seen, and an encoder that statistics have taught."""

    inputs: _Inputs
    encoder: Sequence[NDArray[np.float32]]

    @classmethod
    def of(cls, space: Space, scores: Scores | None, drawn: Genes, members: int) -> _Body:
        inputs = _Inputs.of(space, scores, drawn)
        return cls(inputs, _arrays(_pretrained(inputs(drawn), members)))


@dataclass(frozen=True)
class _Learnt:
    """One target: the weights of all members, and the error of members on networks that they did not see."""

    encoder: Sequence[NDArray[np.float32]]
    head: Sequence[NDArray[np.float32]]
    error: float

    def guess(self, given: _Given) -> tuple[Floats, Floats]:
        with single_thread():
            embedded = _run(self.encoder, given.encoded)
            beside = np.broadcast_to(given.beside, (len(embedded), *given.beside.shape))
            found = _run(self.head, np.concatenate([embedded, beside], axis=2), last=True)
        mean, spread = found[:, :, 0].mean(axis=0), found[:, :, 0].std(axis=0)
        return mean.astype(np.float64), np.sqrt(spread.astype(np.float64) ** 2 + self.error**2)


def _run(layers: Sequence[NDArray[np.float32]], x: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
    """Layers of all members on inputs (n, k) or (members, n, k); `last`: no rectifier after the last of them."""
    for i in range(0, len(layers), 2):
        x = x @ layers[i] + layers[i + 1]
        if not last or i + 2 < len(layers):
            np.maximum(x, 0, out=x)
    return x


def _encoded(space: Space, genes: Genes) -> tuple[Floats, Floats]:
    """Encodings of architectures and of recipes."""
    columns, owner = gene_features(space, genes), column_choices(space)
    recipes = np.array([c.name.startswith("recipe.") for c in space.choices], dtype=bool)[owner]
    wired = [columns[:, ~recipes], counts(space, genes), space.structure(genes)]
    return np.concatenate(wired, axis=1), columns[:, recipes]


def _statistics(space: Space, scores: Scores | None, scale: ScoreScale | None, genes: Genes) -> Floats:
    costs = cost_features(space, genes)
    return np.concatenate([costs, scale(scores(genes))], axis=1) if scores and scale else costs


def _drawn_layers(members: int, sizes: Sequence[int], seed: int) -> Layers:
    import torch

    rng = np.random.default_rng(seed)
    out: Layers = []
    for before, after in pairwise(sizes):
        weights = rng.normal(size=(members, before, after)) * np.sqrt(2 / max(1, before))
        out += [torch.tensor(weights, dtype=torch.float32), torch.zeros(members, 1, after)]
    return [layer.requires_grad_() for layer in out]


def _forward(layers: Layers, x: Tensor, last: bool = False) -> Tensor:
    for i in range(0, len(layers), 2):
        x = x @ layers[i] + layers[i + 1]
        if not last or i + 2 < len(layers):
            x = x.relu()
    return x


def _pretrained(given: _Given, members: int) -> Layers:
    """An encoder that a proxy head has taught the statistics of networks; untaught where there are none."""
    import torch

    encoder = _drawn_layers(members, (given.encoded.shape[1], HIDDEN, EMBEDDING), 0)
    if not given.statistics.shape[1] or len(given.encoded) < BATCH:
        return encoder
    proxy = _drawn_layers(members, (EMBEDDING, given.statistics.shape[1]), 1)
    x, statistics = torch.from_numpy(given.encoded), torch.from_numpy(given.statistics)
    optimizer = torch.optim.AdamW([*encoder, *proxy], RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, PRETRAINING_STEPS)
    rng = np.random.default_rng(2)
    for _ in range(PRETRAINING_STEPS):
        rows = torch.from_numpy(rng.integers(0, len(x), size=BATCH))
        found = _forward(proxy, _forward(encoder, x[rows]), last=True)
        loss = torch.nn.functional.huber_loss(found, statistics[rows].expand_as(found)) * members
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return encoder


def _fitted(pretrained: Sequence[NDArray[np.float32]], given: _Given, y: Floats) -> _Learnt:
    """The accuracy head, at first alone, then with the encoder; member k leaves out every row of its fold."""
    import torch

    members = len(pretrained[0])
    encoder = [torch.from_numpy(layer.copy()).requires_grad_() for layer in pretrained]
    head = _drawn_layers(members, (EMBEDDING + given.beside.shape[1], EMBEDDING, 1), 3)
    left = np.random.default_rng(4).permutation(len(y)) % members == np.arange(members)[:, None]
    if len(y) < 2 * members:
        left[:] = False
    x, target = torch.from_numpy(given.encoded), torch.from_numpy(y.astype(np.float32))
    beside = torch.from_numpy(given.beside).expand(members, *given.beside.shape)
    weights = torch.from_numpy((~left / (~left).sum(axis=1, keepdims=True)).astype(np.float32))

    def guess(embedded: Tensor, rows: Tensor) -> Tensor:
        return _forward(head, torch.cat([embedded, beside[:, rows]], dim=2), last=True)[:, :, 0]

    every, rng = torch.arange(len(y)), np.random.default_rng(5)
    with torch.no_grad():
        frozen = _forward(encoder, x)
    for layers, rate in ((head, RATE), ([*encoder, *head], SLOW_RATE)):
        optimizer = torch.optim.AdamW(layers, rate, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            rows = every if len(y) <= BATCH else torch.from_numpy(rng.choice(len(y), BATCH, replace=False))
            found = guess(frozen[:, rows] if layers is head else _forward(encoder, x[rows]), rows)
            losses = torch.nn.functional.huber_loss(found, target[rows].expand_as(found), reduction="none")
            loss = (losses * weights[:, rows]).sum() * (len(y) / len(rows))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        off = (guess(_forward(encoder, x), every).numpy() - y)[left if left.any() else ~left]
    return _Learnt(_arrays(encoder), _arrays(head), float(np.sqrt((off**2).mean())))


def _arrays(layers: Layers) -> list[NDArray[np.float32]]:
    return [layer.detach().numpy() for layer in layers]
