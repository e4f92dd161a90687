"""`python -m api`: the HTTP API as a process of its own. `nas serve` starts it, with a runner beside it."""

from __future__ import annotations

import argparse

import uvicorn

from api import create_app
from nas.settings import open_configured_store


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="api", description="Serve the HTTP API of the NAS service.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    app = create_app(open_configured_store())
    uvicorn.run(app, host=options.host, port=options.port, log_level="info")


if __name__ == "__main__":
    main()
