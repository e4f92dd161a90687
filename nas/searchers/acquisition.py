"""How much a candidate is worth: its expected improvement of the hypervolume, or of the violation.

The hypervolume is the mean, over random directions, of the best scalarised point (Golovin and Zhang, "Random
hypervolume scalarizations for provable multi-objective black box optimization", ICML 2020), so its expected
improvement is a mean over directions and samples: one short formula for any number of objectives, which for one
objective is the usual expected improvement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DIRECTIONS = 64
SAMPLES = 16


@dataclass(frozen=True)
class Warp:
    """A monotone map under which losses are easier to predict: linear where they are good, logarithmic where bad.

    Collapsed networks and slow outliers then do not drown the differences between good ones.
    """

    centre: float
    scale: float

    @classmethod
    def of(cls, losses: Floats) -> Warp:
        """Fitted to losses of shape (n,): linear from the best to the median."""
        centre = float(np.median(losses))
        scale = centre - float(losses.min())
        return cls(centre, scale if scale > 0 else float(losses.std()) or 1.0)

    def forward(self, losses: Floats) -> Floats:
        """Losses to warped losses."""
        z = (losses - self.centre) / self.scale
        return np.where(z > 0, np.log1p(np.maximum(z, 0.0)), z)

    def back(self, warped: Floats) -> Floats:
        """Warped losses to losses."""
        z = np.where(warped > 0, np.expm1(np.clip(warped, 0.0, 50.0)), warped)
        return z * self.scale + self.centre


def standard_normal(samples: int, columns: int, rng: np.random.Generator) -> Floats:
    """Stratified standard normal samples (a Latin hypercube), shape (samples, columns)."""
    from scipy.special import ndtri

    strata = np.stack([rng.permutation(samples) for _ in range(columns)], axis=1)
    return np.asarray(ndtri((strata + rng.random((samples, columns))) / samples))


def directions(count: int, objectives: int, rng: np.random.Generator) -> Floats:
    """Uniform on the positive part of the unit sphere, shape (count, objectives)."""
    drawn = np.abs(rng.standard_normal((count, objectives))) + 1e-12
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def hypervolume_improvement(samples: Floats, front: Floats, rays: Floats) -> Floats:
    """Per sample, proportional to the hypervolume that it adds to `front`.

    Args:
        samples: losses, normalised so that the reference point is 1; shape (s, n, m).
        front: losses of what is there, shape (f, m); may be empty.
        rays: directions, shape (k, m).

    Returns:
        Shape (s, n).
    """
    objectives = samples.shape[-1]
    best = _scalarised(front, rays).max(axis=-1, initial=0.0, where=True) if len(front) else np.zeros(len(rays))
    out = np.zeros(samples.shape[:2])
    for ray, there in zip(rays, best, strict=True):
        reach = ((1.0 - samples) / ray).min(axis=-1).clip(min=0.0) ** objectives
        out += np.maximum(reach - there, 0.0)
    return out / len(rays)


def _scalarised(losses: Floats, rays: Floats) -> Floats:
    """Shape (k, f)."""
    reach = ((1.0 - losses)[None] / rays[:, None]).min(axis=-1)
    return np.asarray(reach.clip(min=0.0) ** losses.shape[1])
