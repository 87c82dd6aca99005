# For those who develop ovsnet. Users need only ./demo and ./test.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
RUN = PYTHONPATH=. $(PYTHON) -m

.PHONY: help tools check format bench docs site vagrant-site vagrant-lab

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile

tools:
	@$(PYTHON) -c 'import mypy, pytest, ruff' 2>/dev/null || \
	  { echo "The tools are not there yet: run sudo ./test once, or $(PYTHON) -m pip install -e '.[lab,dev]'." >&2; exit 2; }

check: tools ## format, lint, types, generated pages fresh, fast tests
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	PYTHONPATH=. $(PYTHON) scripts/generate_docs.py --check
	$(RUN) pytest -q -m "not slow and not vm" tests/unit tests/golden

format: tools ## let ruff rewrite what it can
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

docs: ## write the generated pages
	PYTHONPATH=. $(PYTHON) scripts/generate_docs.py

site: ## docs/ as a site in build/site; any warning is an error
	$(RUN) mkdocs build --strict --quiet
	@echo "build/site/index.html is its first page."

bench: ## a table and JSON; needs root for the parts that use network namespaces
	$(RUN) benchmarks

vagrant-site: ## what the machines of vagrant/ are given, into build/vagrant
	$(RUN) vagrant.stage

vagrant-lab: ## one controller and three hypervisors as virtual machines: up, all checks, gone; needs root, takes minutes
	vagrant/lab
