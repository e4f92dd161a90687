"""Fitted predictors as files: what was learnt from, not what came of it.

A file is a zip archive of arrays (NumPy's ``.npz``): ``genes`` (n, d), ``targets`` (n, t), and ``about``, JSON
text with the format's version, the kind of predictor and its settings, the space's identity and, where it has
one, its document. Reading one fits the predictor again, which gives the same predictions, as fits are
deterministic; nothing in a file is ever executed, so that files of others can be read.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from predictors.auto import Auto
from predictors.base import GenePredictor
from predictors.features import Scores
from predictors.gradient_boosting import GradientBoosting
from predictors.latency import Latency
from predictors.mlp import MlpEnsemble
from predictors.process import BlockProcess
from predictors.random_forest import RandomForest
from predictors.ridge import Ridge
from search_spaces.space import Space

FORMAT = 1
KINDS: tuple[type[GenePredictor], ...] = (
    *(Auto, Latency, Ridge, BlockProcess, GradientBoosting, RandomForest, MlpEnsemble),
)
SETTINGS = ("members", "unlabelled")


class FileFault(ValueError):
    """A file that holds no predictor, or one of another space; with the path and what is allowed."""


def save(predictor: GenePredictor, path: str | Path) -> None:
    """Write a fitted predictor; scores are not written, they are given again to `load`.

    Raises:
        RuntimeError: before `fit`.
    """
    if not predictor.fitted:
        raise RuntimeError(f"{type(predictor).__name__} was not fitted; call fit first")
    document = getattr(predictor.space, "document", None)
    about = {
        "format": FORMAT,
        "kind": type(predictor).__name__,
        "settings": {name: getattr(predictor, name) for name in SETTINGS if hasattr(predictor, name)},
        "scores": predictor.scores is not None,
        "identity": predictor.space.identity,
        "name": predictor.space.name,
        "document": None if document is None else document.model_dump(mode="json"),
    }
    with Path(path).open("wb") as file:
        np.savez_compressed(
            file, genes=predictor.genes, targets=predictor.targets, about=np.array(json.dumps(about))
        )


def load(path: str | Path, space: Space | None = None, scores: Scores | None = None) -> GenePredictor:
    """Read a predictor and fit it again.

    `space`: needed where the predictor's has no document (a Python class). `scores`: needed where it had some.

    Raises:
        FileFault: for a file of another kind, a space or scores that are missing, or another space.
        FileNotFoundError: where there is no file.
    """
    about, genes, targets = _read(Path(path))
    kinds = {kind.__name__: kind for kind in KINDS}
    if about.get("format") != FORMAT or about.get("kind") not in kinds:
        found = f"format {about.get('format')}, kind {about.get('kind')}"
        raise FileFault(f"{path}: {found} is not known; allowed: format {FORMAT}, kind {', '.join(kinds)}")
    space = _space(path, about, space)
    if about.get("scores") and scores is None:
        raise FileFault(f"{path}: the predictor was fitted with scores; give them as `scores`")
    if (
        genes.ndim != 2
        or genes.shape[1] != len(space.choices)
        or (genes < 0).any()
        or (genes >= space.sizes).any()
    ):
        raise FileFault(f"{path}: genes are none of {space.name}; allowed: (n, {len(space.choices)}) indices")
    settings = {name: int(value) for name, value in dict(about.get("settings", {})).items() if name in SETTINGS}
    return kinds[str(about["kind"])](space, scores, **settings).fit_genes(genes, targets)


def _space(path: str | Path, about: dict[str, Any], space: Space | None) -> Space:
    if space is None:
        if about.get("document") is None:
            raise FileFault(f"{path}: the space {about.get('name')} has no document; give it as `space`")
        from search_spaces.load import load_space

        space = load_space(about["document"])
    if space.identity != about.get("identity"):
        raise FileFault(f"{path}: the predictor is of another space, {about.get('name')}, not {space.name}")
    return space


def _read(path: Path) -> tuple[dict[str, Any], Any, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return json.loads(str(file["about"])), file["genes"].astype(np.int64), file["targets"]
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise FileFault(f"{path}: is no predictor ({error}); allowed: a file written by predictors.save") from None
