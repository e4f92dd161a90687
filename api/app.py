"""The application."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from starlette.concurrency import run_in_threadpool

from api import (
    capabilities,
    events,
    exports,
    fronts,
    health,
    jobs,
    metrics,
    predictors,
    problems,
    spaces,
    trial_files,
    trials,
)
from api.access import principal
from api.guard import UNGUARDED, Guard
from api.kept_fronts import Fronts
from api.listeners import Listeners
from api.openapi import complete
from api.warm_starts import Turns
from api.watches import Watches
from nas.artifacts import Artifacts
from nas.contracts import Store
from nas.predictor_desk import PredictorDesk


class Application(FastAPI):
    """FastAPI, with an OpenAPI document that describes what clients send as well."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi(), functions=bool(self.state.functions))
        return self.openapi_schema


def create_app(
    store: Store,
    guard: Guard = UNGUARDED,
    functions: Sequence[str] = (),
    artifacts: Artifacts | None = None,
) -> FastAPI:
    """The HTTP API over a store. Routes that read it are synchronous: they run in the server's thread pool.

    Args:
        store: of jobs and trials.
        guard: who is let in. As it is by default, whoever reaches the application may do everything.
        functions: import paths that documents may name for the callable evaluator.
        artifacts: where files of jobs are; None: in this process's memory, for as long as it lives.
    """
    app = Application(
        title="NAS service",
        description="Neural architecture search: post a document, read trials and the Pareto front.",
        version=version("nas-service"),
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan,
    )
    app.state.store = store
    app.state.functions = tuple(functions)
    app.state.artifacts = artifacts or Artifacts(f"memory://{uuid.uuid4().hex}")
    app.state.fronts = Fronts(store)
    app.state.desk = PredictorDesk(store)
    app.state.watches = Watches(store)
    app.state.warm_starts = Turns()
    problems.install(app)
    guard.install(app)
    app.state.listeners = Listeners(app.state.key_ring, guard.streams, app.state.watches.wake)
    for part in (jobs, trials, trial_files, fronts, events, predictors, exports, spaces, capabilities):
        app.include_router(part.router, dependencies=[Depends(principal)])  # before a body is read
    app.include_router(health.router)
    app.include_router(metrics.router)
    metrics.install(app, store)  # after all other middleware, so that what these answer is counted
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """What the application started ends with it: the process that fits predictors."""
    yield
    await run_in_threadpool(app.state.desk.close)
