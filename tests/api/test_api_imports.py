from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "ray", "pandas", "sklearn", "lightgbm", "optuna", "pyarrow", "plotly")


def loaded(code: str) -> list[str]:
    """Which of the heavy packages a fresh interpreter has loaded after `code`."""
    code += f"\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_api_loads_nothing_heavy():
    assert loaded("import api") == []


def test_serving_a_job_loads_neither_torch_nor_ray():
    code = """
import asyncio, httpx
from api import create_app
from nas.storage.memory import MemoryStore

async def main():
    transport = httpx.ASGITransport(create_app(MemoryStore()))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        document = {"space": "digits-tiny", "objectives": ["max accuracy", "min params"]}
        document["searcher"] = {"kind": "predictor_guided", "scores": ["naswot"]}
        job = await client.post("/v1/jobs", json=document)
        assert job.status_code == 202, job.text
        for path in ("", "/trials", "/pareto-front"):
            assert (await client.get(job.headers["location"] + path)).status_code == 200
        assert (await client.get("/v1/spaces")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 200

asyncio.run(main())
"""
    assert not {"torch", "ray"} & set(loaded(code))


def test_the_heavy_packages_are_there_to_be_loaded():
    assert "pandas" in loaded("import pandas")
