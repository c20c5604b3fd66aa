# The commands for people and for CI. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*)

TASK ?= text
DEMO := demo-$(TASK).safetensors

.PHONY: help setup demo test check format bench figures clean
.DEFAULT_GOAL := help

help:  ## List these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED)  ## Make .venv and install the project with everything into it

$(INSTALLED): $(SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing unrolled and what it needs into $(VENV) ..."
	@$(BIN)/pip install --quiet --constraint constraints.txt scikit-build-core nanobind numpy cmake ninja
	@$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## Train a small model and show what it does: TASK=text (a minute), label, forecast, speech, translate, caption
	@rm -f $(DEMO).checkpoint
	@$(BIN)/unrolled train $(TASK) $(if $(filter text,$(TASK)),--minutes 1) --out $(DEMO)
	@echo "(First, in this shell: . $(BIN)/activate)"

test: $(INSTALLED)  ## Run every test
	@$(BIN)/pytest --numprocesses auto --dist loadfile

check: $(INSTALLED)  ## Format, lint and types
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy

format: $(INSTALLED)  ## Put the code into its format
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: $(INSTALLED)  ## Train on real text for three minutes and record the loss (benchmarks.tasks has the rest)
	@$(BIN)/python -m benchmarks.text

figures: $(INSTALLED)  ## Draw the pictures of docs/memory.md again from the recorded results
	@$(BIN)/python -m benchmarks.figures

clean:  ## Remove what these commands made
	@rm -rf $(VENV) build demo-*.safetensors demo-*.checkpoint demo-*.log.jsonl demo-*.previous
