"""`python -m nas.fitting_server DESCRIPTOR`: the process behind `nas.fitting_process`, at the end of a socket."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from nas.fitting import Learnt, Lesson
from nas.fitting_process import FittingFault, NotLearnt
from nas.predictor_quality import PredictorQuality
from predictors import Prediction
from search_spaces.architecture import Genes

KEPT = 8
"""Fitted predictors that are kept, those asked last; one of 5,000 networks takes about 50 MB a metric."""


class Bench:
    """Fitted predictors by name, the last few."""

    def __init__(self, kept: int = KEPT) -> None:
        self._most = kept
        self._kept: OrderedDict[str, Learnt] = OrderedDict()
        self._lock = threading.Lock()

    def fit(self, name: str, lesson: Lesson) -> PredictorQuality:
        """Learn; what was learnt longest ago is forgotten."""
        learnt = lesson.learn()
        quality = learnt.quality
        with self._lock:
            self._kept[name] = learnt
            self._kept.move_to_end(name)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return quality

    def predict(self, name: str, genes: Genes) -> Prediction:
        """Ask one. Raises `NotLearnt`."""
        with self._lock:
            if name not in self._kept:
                raise NotLearnt(name)
            self._kept.move_to_end(name)
            learnt = self._kept[name]
        return learnt.predict(genes)


def main() -> None:
    """Answer until the other end is closed."""
    connection = Connection(int(sys.argv[1]))
    bench, sending = Bench(), threading.Lock()
    verbs: Mapping[str, Callable[..., object]] = {"fit": bench.fit, "prediction": bench.predict}
    lanes = {verb: ThreadPoolExecutor(1) for verb in verbs}  # a question does not wait for another's fit

    def answer(number: int, verb: str, message: bytes) -> None:
        try:
            found = (number, True, verbs[verb](*pickle.loads(message)))
        except NotLearnt as error:
            found = (number, False, error)
        except Exception:
            found = (number, False, FittingFault(traceback.format_exc()))
        with sending:
            connection.send(found)

    while True:
        try:
            number, verb, message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # even in the middle of a fit, which nobody waits for any more
        lanes[verb].submit(answer, number, verb, message)


if __name__ == "__main__":
    main()
