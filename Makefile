# The one place for every command; `make` explains itself.
PYTHON ?= python3
VENV ?= .venv
LOGDIR ?= logdir
PORT ?= 6006
SEEDS ?= 10
EXPERIMENTS ?= .experiments
CORPUS ?= .corpus
SYMPTOMS ?= .symptoms
MAP ?= .trainability
FIRST_LAYER ?= .first-layer
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTED := $(VENV)/.installed-test

.DEFAULT_GOAL := help
.PHONY: help setup train board serve test lint page bench bench-faults bench-kills bench-diagnosis bench-anyone experiments symptoms trainability-map first-layer clean

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Settings: PYTHON=$(PYTHON) VENV=$(VENV) LOGDIR=$(LOGDIR) PORT=$(PORT) SEEDS=$(SEEDS) EXPERIMENTS=$(EXPERIMENTS) CORPUS=$(CORPUS) SYMPTOMS=$(SYMPTOMS) MAP=$(MAP) FIRST_LAYER=$(FIRST_LAYER)"

setup: $(INSTALLED)  ## Make the virtual environment, with what training needs

INSTALL := $(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable

$(INSTALLED): setup.cfg pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) .
	@touch $@

$(TESTED): $(INSTALLED)
	$(INSTALL) '.[test]'
	@touch $@

train: $(INSTALLED)  ## Train the tutorial's three networks into LOGDIR, and compare them
	@$(BIN)/mnist-vg train --logdir $(LOGDIR)

board: $(INSTALLED)  ## Open TensorBoard on LOGDIR, also while it trains
	@$(BIN)/mnist-vg board --logdir $(LOGDIR) --port $(PORT)

serve: $(INSTALLED)  ## Start TensorBoard on LOGDIR with a service that trains what the tab asks for
	@$(BIN)/mnist-vg serve --logdir $(LOGDIR) --port $(PORT)

test: $(TESTED)  ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(TESTED)  ## Check style, docstrings, and which wing imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

# What checks the page of the tab, with npm's packages. The page itself needs none of them.
NODE := .ci/node_modules
PAGE := "mnist_vg/board/static/*.{js,css}" "tests/board/*.js" ".ci/*.js"

$(NODE)/.installed: .ci/package.json .ci/package-lock.json
	npm ci --prefix .ci --silent --no-audit --no-fund
	@touch $@

page: $(TESTED) $(NODE)/.installed  ## Check the style of the tab's page, and test what it computes (needs npm)
	$(NODE)/.bin/eslint --config .ci/eslint.config.js mnist_vg/board/static tests/board
	$(NODE)/.bin/prettier --config .ci/prettier.config.js --check $(PAGE)
	PYTHON=$(BIN)/python node --test tests/board/*.test.js

# The others have targets of their own.
BENCHMARKS := $(filter-out %/corpus.py %/diagnosis.py %/cure.py %/faults.py %/kills.py %/anyone.py,$(wildcard benchmarks/[a-z]*.py))

bench: $(TESTED)  ## Measure against the usual ways of doing the same, for about 45 minutes
	@for file in $(BENCHMARKS); do $(BIN)/python $$file || exit; done

# Two at a time.
HALVES := tune test
.PHONY: $(HALVES:%=corpus-%)

bench-faults: $(TESTED)  ## Kill a run and a sweep at every file operation, damage their files, and go on
	@$(BIN)/python benchmarks/faults.py

bench-kills: $(TESTED)  ## Kill the training service 100 times over a queue of 50 jobs, and compare its runs
	@$(BIN)/python benchmarks/kills.py

bench-diagnosis: $(TESTED)  ## Train the labelled corpus, and score the diagnosis on it
	@$(MAKE) --no-print-directory -j2 $(HALVES:%=corpus-%)
	@$(BIN)/python benchmarks/diagnosis.py $(CORPUS)

bench-anyone: $(TESTED)  ## Train models of many kinds, healthy and sick, and score check and diagnosis on them
	@$(BIN)/python benchmarks/anyone.py

$(HALVES:%=corpus-%): corpus-%: $(INSTALLED)
	@$(BIN)/python benchmarks/corpus.py train $(CORPUS) $*

# The longest first: two at a time, and they end together.
SUITES := remedies initializers circles depth circles_uniform glorot2010
.PHONY: $(SUITES)

experiments: $(INSTALLED)  ## Train every suite under SEEDS seeds, and write docs/experiments.md
	@$(MAKE) --no-print-directory -j2 $(SUITES)
	@$(BIN)/python docs/experiments.py $(EXPERIMENTS) docs/experiments.md

$(SUITES): $(INSTALLED)
	@$(BIN)/mnist-vg train $@ --seeds $(SEEDS) --logdir $(EXPERIMENTS)/$@

symptoms: $(TESTED)  ## Train an example of each symptom, and what cures it, and write docs/symptoms
	@$(BIN)/python docs/symptoms.py $(SYMPTOMS) docs/symptoms

# 0.2236 is the root of the paper's bias variance; the rest was found in a coarse trial.
trainability-map: $(INSTALLED)  ## Train 800 networks over depth and weight variance, and write docs/trainability.md
	@$(BIN)/mnist-vg sweep trainability --logdir $(MAP) --seeds 2 \
	  --vary num_layers=5:100:5 --vary "kernel_initializer=variance_scaling(scale=1:3.85:0.15,mode='fan_in',distribution='untruncated_normal')" \
	  --activation tanh --hidden-size 64 --bias-initializer 'random_normal(stddev=0.2236)' \
	  --optimizer sgd --learning-rate 0.003 --batch-size 64 --iterations 300 --log-every 300
	@$(BIN)/python docs/trainability.py $(MAP)/trainability docs/trainability.md

first-layer: $(INSTALLED)  ## Train the tutorial's networks with Adam and with SGD, and write docs/first_layer.md
	@$(BIN)/python docs/first_layer.py $(FIRST_LAYER) docs/first_layer.md

clean:  ## Remove the virtual environment and caches; never LOGDIR
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -exec rm -rf {} +
