# Thin aliases: the work is done by the scripts in tools/, each of which says at its top what it does.
#
# PY chooses the Python (make test PY=3.14; several: PY="3.14 3.15").  Without it a target uses every
# supported version, or the preferred one, whichever it needs.  ARGS is passed on to the program run.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help run test test-builtin test-old-wheel wheels test-wheel test-arm64 docs bench conformance stdlib mutate pythons env asan tsan ctests fuzz check check-packages lint format sources clean distclean

PY ?=
ARGS ?=

# The one Python of `run`: the given one, else the preferred one of those that are there.
ONE_PY = $(or $(PY),$$(tools/pythons best))
RUN_TESTS = "$$(tools/pythons find "$$(tools/pythons best)")" tools/run_tests.py
WITH_PY = $(if $(PY),--py $(PY))

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## */  make \1\t/' | expand -t 24

run: ## the main job: analyse the standard library, measurements with numpy and pandas, a join with a shared table, in four ways
	@py=$(ONE_PY) && tools/env "$$py" --examples && \
	    ".venv/$$py/bin/python" examples/analyse_stdlib.py $(ARGS) && \
	    ".venv/$$py/bin/python" examples/analyse_arrays.py $(ARGS) && \
	    ".venv/$$py/bin/python" examples/join_events.py $(ARGS)

test: ## C tests, pytest on every Python that can be had, CPython's own tests on 3.14 and 3.15 (ROOM=queue: one room's)
	@$(RUN_TESTS) $(if $(ROOM),--room $(ROOM)) $(WITH_PY) $(if $(ARGS),-- $(ARGS))

test-builtin: ## what loads modules, in Pythons that have all modules of the standard library built in
	@$(RUN_TESTS) --suites builtin --py $(or $(PY),$$(tools/pythons versions)) $(if $(ARGS),-- $(ARGS))

test-old-wheel: ## what depends on CPython's insides, with an Atoll that was built with another patch release
	@$(RUN_TESTS) --suites old-wheel --py $(or $(PY),$$(tools/pythons variants)) $(if $(ARGS),-- $(ARGS))

wheels: ## the sdist and a wheel for each Python that can be had, repaired by auditwheel, in dist
	@tools/wheels $(PY)

test-wheel: ## the wheels of dist, each in a new environment, with the smoke part of the tests
	@$(RUN_TESTS) --suites wheel --py $(or $(PY),$$(tools/pythons versions)) $(if $(ARGS),-- $(ARGS))

test-arm64: ## on Linux on Arm, emulated, in a Debian that is made for it: C tests, a part of pytest's, ten packages (root; an hour)
	@tools/test-arm64 $(ARGS)

docs: ## the documentation's site, in build/site
	@tools/docs

bench: ## Atoll against the standard library, threads and processes, on 3.14 and 3.15 (or PY=)
	@for py in $(or $(PY),3.14 3.15); do \
	    tools/env $$py --examples && .venv/$$py/bin/python bench/run.py $(ARGS) || exit 1; \
	done

conformance: ## CPython's own test_interpreters against Atoll, on 3.14 and 3.15
	@$(RUN_TESTS) --suites conformance --py $(or $(PY),3.14 3.15)

stdlib: ## the standard library's own tests, each file in an interpreter, against main (15 minutes; ARGS=test_os: some)
	@"$$(tools/pythons find "$$(tools/pythons best)")" tools/check_stdlib.py $(WITH_PY) $(ARGS)

mutate: ## changes a file of python/atoll in 20 places: which tests notice (ARGS="_pool/map.py 50": 50 places of that file)
	@tools/mutate "$(or $(PY),$$(tools/pythons best))" $(ARGS)

check-packages: ## popular packages in interpreters; on every version it writes the table of docs/extensions.md
	@"$$(tools/pythons find "$$(tools/pythons best)")" tools/check_packages.py --table $(WITH_PY) $(ARGS)

pythons: ## finds or provides CPython 3.12 to 3.15 (into .pythons) and lists them
	@tools/pythons get $(PY); status=$$?; tools/pythons list; exit $$status

env: ## .venv/X.Y with Atoll built and installed, for each supported Python (or PY=)
	@for py in $(or $(PY),$$(tools/pythons versions)); do tools/env $$py || exit 1; done

ctests: ## the C tests of src/core and src/port, without Python
	@tools/ctests plain $(ARGS)

asan: ## the C tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/ctests asan $(ARGS)

tsan: ## the C tests under ThreadSanitizer
	@tools/ctests tsan $(ARGS)

fuzz: ## fuzzes what reads and clones shared objects, finds them, and queues, a minute each (ARGS=600: ten)
	@tools/fuzz $(ARGS)

lint: ## every static check: formats, ruff, mypy, stubs, layers, gcc and clang with -Werror, clang-tidy
	@tools/lint

format: ## rewrites the sources as the formatters want them, and the source lists
	@tools/lint --fix

sources: ## rewrites the source lists of the meson.build files: after adding or removing a file
	@"$$(tools/pythons find "$$(tools/pythons best)")" tools/sources.py --write

check: ## everything that CI runs: lint, asan, tsan, test, test-builtin, test-old-wheel, and with memory checked
	@$(RUN_TESTS) --suites lint asan tsan c pytest blocks builtin old-wheel conformance $(WITH_PY)

clean: ## removes build directories and caches, keeps environments and Pythons
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.*' -prune -exec rm -rf {} +

distclean: clean ## also removes .venv and .pythons
	@rm -rf .venv .pythons
