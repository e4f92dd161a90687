from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "ray", "pandas", "sklearn", "lightgbm", "optuna", "pyarrow", "plotly")


def loaded(code: str) -> list[str]:
    """Which of the heavy packages a fresh interpreter has loaded after `code`."""
    code += f"\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=150)
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


def test_fitting_and_asking_a_predictor_loads_nothing_heavy_here():
    code = """
import asyncio, httpx
from api import create_app
from nas.job import JobSpec
from nas.storage.memory import MemoryStore
from nas.trial import Measured, Proposal
from search_spaces import load_space

async def main():
    store, space = MemoryStore(), load_space("digits-tiny")
    document = {"space": "digits-tiny", "objectives": ["max params"], "evaluator": "cost", "searcher": "random"}
    job, networks = store.submit(JobSpec.parse(document)).id, space.sample(15, 0)
    lease = store.claim(job)
    for trial in lease.open([Proposal(a) for a in networks]):
        lease.close([(trial.number, Measured(space.cost(trial.architecture)))])
    app = create_app(store)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        url = (await client.post("/v1/predictors", json={"job": job})).headers["location"]
        while (made := (await client.get(url)).json())["state"] == "FITTING":
            await asyncio.sleep(0.1)
        assert made["state"] == "READY", made
        body = {"architectures": [dict(networks[0])]}
        assert (await client.post(url + ":predict", json=body)).status_code == 200
    app.state.desk.close()

asyncio.run(main())
"""
    assert loaded(code) == []


def test_the_heavy_packages_are_there_to_be_loaded():
    assert "pandas" in loaded("import pandas")
