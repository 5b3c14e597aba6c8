# make demo: fix a real bug in a container. make test: the whole suite, on every engine that is found.
.PHONY: setup engine images demo test lint format clean

setup:
	@scripts/setup.sh

engine: setup
	@scripts/engine.sh

demo: engine
	@scripts/images.sh auto toolbox python
	@scripts/demo.sh

test: engine
	@scripts/tools.sh
	@scripts/images.sh all
	.venv/bin/pytest -n auto

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

format: setup
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist runner.egg-info
	find runner tests images -name __pycache__ -type d -prune -exec rm -rf {} +
