# What a newcomer types: `make demo`, `make test`. Both set up what they need first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test test-quick cluster-test fuzz-test test-faults test-sameness \
	test-guards race-test lint handbook-check oracle-check bench-scoring bench-gates \
	bench-features bench-training bench-reasons bench-causes bench-models bench-knowable \
	wheel constraints clean

setup: $(READY)

# The stamp is newer than the files it depends on once everything is in place.
$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev,java,onnx]'
	$(BIN)/python -m jobs.runtime.java
	touch $(READY)

demo: setup
	$(BIN)/fraud-scoring demo

# A test waits for Spark's one driver most of the time, so two at once fit on two cores.
WORKERS ?= 2
test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-quick: setup
	$(BIN)/python -m pytest -m "not spark and not distributed and not slow"

# A bank's nights on Spark's own standalone cluster, whose workers have the wheel alone.
cluster-test: setup wheel
	WHEEL="$$(ls dist/*.whl)" $(BIN)/python -m pytest -m cluster tests/cluster

# Hits nights while they run: kills, pauses, races, damaged storage, clocks, growing deliveries.
test-faults: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m faults tests/faults \
		--ignore tests/faults/test_guards.py

# Compares nightly, backfill and replay over ten nights; audits a score of sixty nights ago.
test-sameness: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m faults \
		tests/jobs/test_sameness.py tests/jobs/test_explain.py

# Takes our own guards away, one at a time: a named test has to fail each time.
test-guards: setup
	$(BIN)/python -m pytest -m faults tests/faults/test_guards.py

# Two nightlies of one date started together, twenty times.
race-test: setup
	PYTHONPATH=tests/faults $(BIN)/python tests/faults/races.py --rounds 20

# make fuzz-test ROWS=100000 SEED=7; without a seed another one each time, which is printed.
ROWS ?= 10000
fuzz-test: setup
	TZ=Asia/Tokyo $(BIN)/python tests/fuzz/fuzz.py --rows $(ROWS) $(if $(SEED),--seed $(SEED))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# make handbook-check LAKE=L REFERENCE=handbook_features_2018-04-01_2018-05-15.parquet
handbook-check: setup
	$(BIN)/python tests/benchmarks/handbook_features.py --lake $(LAKE) --reference $(REFERENCE)

# make oracle-check LAKE=L FROM=2018-04-01 TO=2018-08-14
oracle-check: setup
	$(BIN)/python tests/benchmarks/oracle_check.py --lake $(LAKE) --from $(FROM) --to $(TO)

# make bench-scoring LAKE=L DATE=2018-08-08
bench-scoring: setup
	$(BIN)/python tests/benchmarks/scoring_paths.py --lake $(LAKE) --date $(DATE)

# Spark jobs and seconds of a night's gates beside the night's whole.
NUM_ROWS ?= 1000000
bench-gates: setup
	$(BIN)/python tests/benchmarks/gate_cost.py --num-rows $(NUM_ROWS)

# What features cost, against the floor and Spark's own windows; ONLY=skew runs one part.
bench-features: setup
	$(BIN)/python tests/benchmarks/feature_cost.py --num-rows $(NUM_ROWS) $(if $(ONLY),--only $(ONLY))

# What feeding a training from Petastorm costs, beside the same loop on tensors in memory.
bench-training: setup
	$(BIN)/python tests/benchmarks/training_feed.py

# What the reasons of a supervised head cost, beside the scoring of the same events.
bench-reasons: setup
	$(BIN)/python tests/benchmarks/attribution_cost.py

# What history is worth and whether reasons are right, on a bank whose frauds have known causes.
bench-causes: setup
	$(BIN)/python tests/benchmarks/simulated_causes.py

# Many recipes on the same nights; what was found is kept in results.jsonl and not found again.
# make bench-models WHAT=architectures LAKE=L FROM=2018-06-27 TO=2018-07-03 (or reported, ablations)
bench-models: setup
	$(BIN)/python tests/benchmarks/model_choice.py $(WHAT) --lake $(LAKE) --from $(FROM) \
		--to $(TO)

# How good any model could be there, since some frauds nothing known gives away.
# make bench-knowable LAKE=L SCENARIOS=handbook_transactions.parquet FROM=2018-07-18 TO=2018-08-14
bench-knowable: setup
	$(BIN)/python tests/benchmarks/knowable_frauds.py --lake $(LAKE) --scenarios $(SCENARIOS) \
		--from $(FROM) --to $(TO)

# Modules that were deleted since the last build would otherwise stay in the wheel.
wheel: setup
	rm -rf build dist
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist

# Compiles the exact versions that setup installs.
constraints:
	$(BIN)/uv pip compile --quiet --python-version 3.11 --extra dev --extra java --extra onnx \
		--no-annotate --no-header setup.cfg -o constraints.txt
	echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" >> constraints.txt

clean:
	rm -rf $(VENV) demo-lake dist build *.egg-info
