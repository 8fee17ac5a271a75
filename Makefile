# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv first.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: demo test lint bench clean

demo: .venv/ready
	$(PY) -m sakiyomi demo

test: .venv/ready
	$(PY) -m pytest
	$(MAKE) lint

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

bench: .venv/ready
	$(PY) -m benchmarks.teach_an_arm
	$(PY) -m benchmarks.imagine_a_push
	$(PY) -m benchmarks.steer_a_character
	$(PY) -m benchmarks.find_surprises
	$(PY) -m benchmarks.latent
	$(PY) -m benchmarks.text
	$(PY) -m benchmarks.speech
	$(PY) -m benchmarks.bridges
	$(PY) -m benchmarks.speed
	$(PY) -m benchmarks.scale measure

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

clean:
	rm -rf .venv runs data build *.egg-info
