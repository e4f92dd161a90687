"""How many threads calculate: one for matrices and networks that are small, two for large populations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from search_spaces.architecture import Genes

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

T = TypeVar("T")
_SEEDED = RLock()
"""Held by the thread that draws by a seed: torch's generator is the process's."""
LARGE = 20_000
"""From so many architectures on it pays to share them between two threads."""


def single_thread() -> Any:
    """The matrices are small: threads would only fight workers for cores, and change the last digits."""
    return _blas().limit(limits=1, user_api="blas")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """One thread of torch inside: sums have one order, and workers side by side do not fight for cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Inside, torch's own generator draws by `seed`, for this thread alone; afterwards it goes on as before."""
    import torch

    with _SEEDED, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def in_halves(of: Callable[[Genes], T], genes: Genes) -> list[T]:
    """What there is to say of a population, whole or, of a large one, of its halves in two threads.

    `of` must be safe to be called by two threads at once.
    """
    from concurrent.futures import ThreadPoolExecutor

    if len(genes) < LARGE:
        return [of(genes)]
    with single_thread(), ThreadPoolExecutor(2) as pool:  # limited out here, so that neither half lifts the limit
        return list(pool.map(of, np.array_split(genes, 2)))


@cache
def _blas() -> ThreadpoolController:
    import scipy.linalg
    from threadpoolctl import ThreadpoolController

    assert scipy.linalg is not None  # its BLAS must be loaded before it can be controlled
    return ThreadpoolController()
