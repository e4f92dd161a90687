"""How the paths of jobs are written."""

from __future__ import annotations

from starlette.convertors import Convertor, register_url_convertor

from nas.job import ID


class _Id(Convertor[str]):
    """What a job's id can be in a path: no colon, which a verb stands behind."""

    regex = ID

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("job", _Id())
JOB = "/{job_id:job}"
"""A job, below ``/v1/jobs``."""
PREDICTOR = "/{predictor_id:job}"
"""A predictor, below ``/v1/predictors``; its id is like that of a job."""
EXPORT = "/{export_id:job}"
"""An export, below ``/v1/exports``, likewise."""
