# Every target makes .venv first if it is not there. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint check serve bench chaos fuzz compose-check figures clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	@echo "installing into $(VENV): about 1 GB, a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $(READY)

demo: $(READY)  ## a joint search on real data, with a live front and a report
	$(BIN)/nas search examples/digits.yaml --test front --report report.html

test: $(READY)  ## every test, in two processes; PostgreSQL too where NAS_TEST_POSTGRES_URL names a database
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)  ## style, types, and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint  ## the same, and the laws as property tests
	$(BIN)/python -m pytest -q -m law

serve: $(READY)  ## the HTTP API and a runner on this machine, http://127.0.0.1:8000
	$(BIN)/nas serve

bench: $(READY)  ## speed beside its peers, printed as a table
	$(BIN)/python -m benchmarks

chaos: $(READY)  ## nothing is lost under 100 faults on each database: kill -9, crashes; a quarter of an hour
	$(BIN)/python -m tests.chaos --faults 100 --minutes 10

fuzz: $(READY)  ## thousands of generated requests to a real server, right and wrong ones, against the OpenAPI document
	$(BIN)/python -m tests.fuzz

compose-check: $(READY)  ## the processes of docker-compose.yml, started without Docker, finish a job on two Ray nodes
	$(BIN)/python scripts/compose-check

figures: $(READY)  ## the drawings in docs/figures; a test holds that they are current
	$(BIN)/nas space draw mobilenetv3-large -o docs/figures/mobilenetv3-large.svg
	$(BIN)/nas space draw nas-bench-201 --values 'edge_*=nor_conv_3x3' --values edge_0_3=skip_connect -o docs/figures/nas-bench-201.svg
	$(BIN)/nas space draw nasnet-a-cifar -o docs/figures/nasnet-a-cifar.svg
	$(BIN)/nas space draw deit-tiny-16 -o docs/figures/deit-tiny-16.svg
	$(BIN)/nas space draw hourglass-mlp --seed 1 -o docs/figures/hourglass-mlp.svg

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
