"""The application."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

from api import health, jobs, problems, spaces
from api.fronts import Fronts
from api.openapi import complete
from nas.contracts import Store


class Application(FastAPI):
    """FastAPI, with an OpenAPI document that describes what clients send as well."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi())
        return self.openapi_schema


def create_app(store: Store) -> FastAPI:
    """The HTTP API over a store. Routes are synchronous: they run in the server's thread pool."""
    app = Application(
        title="NAS service",
        description="Neural architecture search: post a document, read trials and the Pareto front.",
        version=version("nas-service"),
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.store = store
    app.state.fronts = Fronts(store)
    problems.install(app)
    for part in (jobs, spaces, health):
        app.include_router(part.router)
    return app
