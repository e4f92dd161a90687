# One image for every process of the service: API, runner, Ray head and Ray workers.
FROM python:3.11-slim

WORKDIR /srv/nas
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY search_spaces search_spaces
COPY predictors predictors
COPY nas nas
COPY api api
# the CPU build of torch: the default one brings gigabytes of CUDA libraries
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 curl \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
       --constraint constraints.txt "torch==2.13.0+cpu" . \
    && useradd --create-home nas && mkdir -p /data && chown nas /data
USER nas
ENV NAS_DATA_DIR=/data PYTHONUNBUFFERED=1
EXPOSE 8000
CMD ["python", "-m", "api", "--host", "0.0.0.0"]
