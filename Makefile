# Two commands: `make reproduce` (the notebooks under `quick`, and the site over them in results/) and `make test`.
# All else: setup, coverage, test-faults, lab, book, page, bench, gpu, mutants, notebooks, networks, article, archive, pins, lint, clean, distclean.
PYTHON      ?= python3
VENV        ?= .venv
PY          := $(VENV)/bin/python
# versions: empty is the newest that pyproject.toml allows, build/oldest.txt the oldest; the scheduled workflow runs both
CONSTRAINTS ?= constraints.txt
# where pip takes torch from: empty is pip's own configuration, an address of your choice may hold a CPU-only build
TORCH_INDEX ?=
PROFILE     ?= quick
OUT         ?= results
# for reproduce and notebooks: NOTEBOOK="00_start_here 02_timestep_sampling"
NOTEBOOK    ?=
# pairs, separated by spaces; a value may hold spaces, but no word with "=" in it: SET="plan=width out=my folder/anew"
SET         ?=
# what `make test` leaves out; .ci/run leaves out nothing
SKIP        ?= browser
ARGS        ?=
MINUTES     ?= 12
DEVICE      ?= cuda

PIP  = $(PY) -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
# the pins again, each with its hashes: all but torch, whose build differs by machine
HASHES := $(if $(filter constraints.txt,$(CONSTRAINTS)),hashes.txt)
# chooses versions, from outside the environment that they are for
RESOLVE = build/uv/bin/python -m uv pip compile --quiet --no-annotate --custom-compile-command "make pins" --extra dev pyproject.toml
# the checkout's path is part of the name: a moved or copied clone is set up anew (an editable install holds absolute paths)
STAMP := $(VENV)/.installed-$(shell pwd | cksum | cut -d" " -f1)
ONLY   = $(foreach name,$(NOTEBOOK),--notebook $(name))
ROOT_USER := $(filter 0,$(shell id -u))

# one thread per process: the same last digits on every run, and no threads spinning against each other on shared cores
export OMP_NUM_THREADS      ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS      ?= 1
export MPLBACKEND            = module://matplotlib_inline.backend_inline
export PYTHONHASHSEED        = 0
# kernels come from the venv, not from the user's own or $JUPYTER_PATH
export JUPYTER_PREFER_ENV_PATH = 1
unexport JUPYTER_PATH

.PHONY: setup reproduce test coverage test-faults lab book page article archive bench gpu mutants notebooks networks pins lint clean distclean
.DELETE_ON_ERROR:

setup: $(STAMP)

# remade only if pyproject.toml or the versions are newer; `python -m venv` repairs a half-made venv and keeps a good one.
# With hashes nothing is built, memlib apart: a build would fetch its own tools, of any version. The list is complete (pip check).
$(STAMP): pyproject.toml $(CONSTRAINTS) $(HASHES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(if $(HASHES),$(PIP) --no-deps --require-hashes --only-binary :all: -r $(HASHES))
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) $(if $(HASHES),--no-deps --no-build-isolation) -e ".[dev]"
	$(PY) -m pip check
	@touch $@

# by the environment, so that no shell splits them
reproduce: export OUT := $(OUT)
reproduce: export SET := $(SET)
reproduce: $(STAMP)
	$(PY) -m memlib reproduce --profile $(PROFILE) --out "$$OUT" $(ONLY) $(if $(SET),--set "$$SET")

# unit tests, and every notebook twice under `smoke`: once by nbval, once by papermill (tests/test_notebooks.py)
test: $(STAMP)
	$(PY) tests/smoke_notebooks.py build/nbval
	$(PY) -m pytest tests build/nbval -n 2 --dist loadfile $(if $(SKIP),-m "not $(SKIP)") \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=300 --nbval-sanitize-with tests/nbval_sanitize.cfg $(ARGS)

# the branches of memlib that unit tests take, at least 95 %: notebooks, the site, kills and planted bugs do not count,
# nor does the test that times readings, which coverage slows
coverage: $(STAMP)
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest tests -n 2 --dist loadfile -m "not browser" \
	  --deselect tests/test_monitor.py::test_readings_cost_less_than_three_percent_of_training \
	  $(foreach name,notebooks book faults mutants,--ignore tests/test_$(name).py) $(ARGS)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage json --quiet -o build/coverage.json
	$(PY) tests/branches.py build/coverage.json

# kills, full disks, flipped bytes, bad arguments, rounding: with ten times the kills and the calls (tests/README.md)
test-faults: $(STAMP)
	FAULTS=long $(PY) -m pytest $(foreach name,numerics faults,tests/test_$(name).py) -n 2 --dist loadfile $(ARGS)

# on this machine only, with the token that it prints; it asks nothing about news and fetches no updates (docs/lab)
lab: $(STAMP)
	$(PY) -m jupyterlab --ip=127.0.0.1 --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  --LabApp.app_settings_dir="$(CURDIR)/docs/lab" --LabApp.news_url= --LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate \
	  --LabApp.extension_manager=readonly $(if $(ROOT_USER),--allow-root) $(ARGS)

# the site over the committed notebooks, in build/book; nothing is executed
book: $(STAMP)
	$(PY) docs/build.py

# the playground alone, as the one HTML file that the repository holds
page: $(STAMP)
	$(PY) -m memlib page --out docs/playground.html

# build/article/article.pdf and .html: docs/article/article.typ, its numbers and figures from the records
article: $(STAMP)
	$(PY) docs/article/build.py

# what Zenodo and Software Heritage take: the last commit with its records, the article, the environment and checksums
archive: article
	@test -z "$$(git status --porcelain)" || { echo "commit first: the archive would lack what is not committed" >&2; exit 1; }
	cp build/article/article.pdf build/article.pdf
	$(PY) -m pip list --disable-pip-version-check --format=freeze --exclude-editable > build/environment.txt
	git ls-files -z | xargs -0 sha256sum > build/SHA256SUMS
	cd build && sha256sum article.pdf environment.txt >> SHA256SUMS
	git archive --format=zip --prefix=memlib/ $(foreach name,article.pdf environment.txt SHA256SUMS,--add-file=build/$(name)) \
	  -o build/memlib.zip HEAD
	@echo build/memlib.zip

bench: $(STAMP)
	$(PY) -m tests.benchmarks $(ARGS)

# within MINUTES, from the tree as it is: tests, benchmarks, notebooks and records of a GPU, into OUT. It needs torch, numpy,
# scipy, pandas, tqdm and pillow of $(PYTHON), no install and no network; --merge adds what came back. DEVICE=cpu tries it, small
gpu: export OUT := $(OUT)
gpu:
	PYTHONPATH="$(CURDIR)" $(PYTHON) -m memlib gpu --minutes $(MINUTES) --device $(DEVICE) --out "$$OUT"

# bugs planted in a copy of memlib, each of which a test must catch; some of them: ARGS='-k NAME'
mutants: $(STAMP)
	$(PY) -m tests.mutate $(ARGS)

# execute the committed notebooks in place, as they stand
notebooks: $(STAMP)
	$(PY) -m memlib refresh $(ONLY)

# data/networks: what notebooks 04 to 06 open with and the first seed of each control of some plans, trained anew and stored in half
# precision. Two seeds are trained, for alone a network rounds otherwise than in a fleet; the second is dropped.
networks: $(STAMP)
	rm -rf build/networks data/networks
	mkdir -p data/networks
	MEMLIB_RUNS=build/networks $(PY) -m memlib reproduce --out build/networks \
	  --notebook 04_train_signals --notebook 05_train_images --set train=True
	for plan in mixture_claims heartbeats_claims emoji_claims mixture_stopped mixture_late heartbeats_stopped heartbeats_weights; do \
	  MEMLIB_RUNS=build/networks $(PY) -c "import sys; from dataclasses import replace; \
	  from memlib.lab.plans import read_plan; from memlib.lab.sweep import sweep; plan = read_plan(sys.argv[1]); \
	  asked = [replace(own, course=(), seed=seed) for own in plan.controls.values() for seed in plan.seeds[:2]]; \
	  [run.path.unlink() for run in sweep(asked, workers=1) if run.experiment.seed != plan.seeds[0]]" $$plan || exit 1; done
	$(PY) -c "from pathlib import Path; from memlib.lab import runs; runs.ship(Path('build/networks'))"

build/uv:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check uv

# constraints.txt and its hashes, when pyproject.toml has changed; ARGS=--upgrade takes newer versions, too
pins: build/uv
	$(RESOLVE) --universal --python-version 3.11 --fork-strategy fewest -o constraints.txt $(ARGS)
	$(RESOLVE) --universal --python-version 3.11 --fork-strategy fewest -c constraints.txt --generate-hashes \
	  --no-emit-package torch -o hashes.txt

# the lower bounds of pyproject.toml, for the Python at hand: make test CONSTRAINTS=build/oldest.txt VENV=build/oldest;
# with ARGS="-W default::DeprecationWarning", as the oldest of one package may warn of the newest of another
build/oldest.txt: pyproject.toml | build/uv
	$(RESOLVE) --no-config --resolution lowest-direct -o $@

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m basedpyright --pythonpath $(PY)
	$(VENV)/bin/oxfmt --check memlib/viz/page docs/static
	$(VENV)/bin/oxlint --deny-warnings -A no-unused-vars memlib/viz/page

clean:
	rm -rf results build .pytest_cache .ruff_cache .hypothesis

distclean: clean
	rm -rf $(VENV) runs data/downloads memlib.egg-info
