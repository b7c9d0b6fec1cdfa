# Each target sets up what it needs: Python >= 3.11, make and git are enough.
PYTHON ?= python3
# In demo/, own/ and strong/ too: each uses the environment of the project that it lies in.
TOP := $(if $(wildcard ../tools/sandbox.py),../)
VENV := $(TOP).venv
export PATH := $(abspath $(VENV))/bin:$(PATH)
# DVC asks who runs it; in a container there may be neither the variable nor an account.
ifeq ($(USER)$(LOGNAME),)
export USER := $(shell id -un 2>/dev/null || id -u)
endif

.PHONY: help demo strong own look try quick test fuzz repro verify check check-params doctor cache
.PHONY: seeds few bench peers lock
help:              ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 14

demo: $(VENV)/ready    ## the whole pipeline offline, on drawn flowers, in the folder demo/
	python -m tools.demo

strong: $(VENV)/ready  ## the experiment with one more approach, the strongest found, in strong/
	python -m tools.strong

look: $(VENV)/ready    ## what to check in your images before training: IMAGES=path [BACKBONE=file]
	@python -m tools.look "$$IMAGES" "$$BACKBONE"

own: $(VENV)/ready     ## on your images: IMAGES=path [EFFORT=quick|article|strong] [BACKBONE=file]
	@python -m tools.own "$$IMAGES" "$$BACKBONE" --effort "$$EFFORT"

PORT ?= 7860
try: $(VENV)/ready     ## a page to try a trained model in a browser: MODEL=file [PORT=7860]
	@python -m pipeline.try_model "$$MODEL" --port $(PORT)

define CHECKS
ruff check .
ruff format --check .
mypy
endef
PYTEST := pytest --numprocesses auto --maxprocesses 4 --dist worksteal

TESTS ?=
quick: $(VENV)/ready   ## lint, types, the tests that need no DVC run [TESTS=tests/data]
	$(CHECKS)
	$(PYTEST) -m "not slow and not pipeline" $(TESTS)

test: $(VENV)/ready    ## lint, types, all tests but the slow ones; SLOW=1: all of them, as in CI
	$(CHECKS)
	$(PYTEST) $(if $(SLOW),,-m "not slow")

repro: check-params    ## the real experiment: downloads 390 MB, then runs `dvc repro`
	@[ -s .dvc/tmp/rwlock ] || rm -f .dvc/tmp/rwlock # a kill can leave it empty: DVC would stop
	dvc repro

COUNT ?= 100000
TARGET ?= all
fuzz: $(VENV)/ready    ## COUNT=100000 inputs for each reader of foreign bytes, or TARGET; atheris
	python -m tests.fuzz $(TARGET) $(COUNT) 0

verify: $(VENV)/ready  ## do two demo runs make the same bytes? [REAL=1] [AGAINST=REV: its metrics?]
	python -m tools.verify $(if $(REAL),--real) $(if $(AGAINST),--against $(AGAINST))

check: $(VENV)/ready   ## for CI: does dvc.lock fit, is the demo the same, and as good as at BASE?
	python -m tools.check $(BASE)

check-params: $(VENV)/ready ## is every key of params.yaml known, and every value allowed?
	python -m tools.check --params

doctor: $(VENV)/ready  ## do DVC's cache and the outs hold what DVC believes? After a power cut
	python -m tools.doctor

cache: $(VENV)/ready   ## what lies in .cache/ (decoded pixels, frozen outputs), and its bound
	@python -m tools.cache

SEEDS ?= 0 1 2
seeds: $(VENV)/ready   ## the experiment with each of SEEDS="0 1 2": mean, range, interval
	python -m tools.seeds $(SEEDS)

COUNTS ?= 1 2 5 10
few: $(VENV)/ready     ## how few images are enough? COUNTS="1 2 5 10" of each class, each of SEEDS
	python -m tools.few "$(COUNTS)" "$(SEEDS)"

bench: $(VENV)/ready   ## the pipeline against a plain script, on a tenth of the work; FULL=1: all
	python -m benchmarks.bench $(if $(FULL),--full)

peers: benchmarks/.venv/ready   ## the same, against fastai and timm too (in their own environment)
	benchmarks/.venv/bin/python -m benchmarks.bench --peers $(if $(FULL),--full)

COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-header --no-emit-index-url --no-emit-find-links --upgrade --quiet
PEERS = --group dev --group peers --constraints requirements.lock
lock: $(VENV)/ready    ## pin the newest versions that pyproject.toml allows
	python -m pip install --quiet uv
	$(COMPILE) --group dev --output-file requirements.lock
	$(COMPILE) $(PEERS) --output-file benchmarks/requirements.lock

# Made again when the lock changes; --require-hashes refuses anything that is not in it. By uv where
# there is one: it is faster, and Debian's python3 has no venv.
OLD = sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.11"
NO_VENV = error: $(PYTHON) cannot make an environment; install uv, or python3-venv (Debian, Ubuntu)
$(VENV)/ready: $(TOP)requirements.lock
benchmarks/.venv/ready: benchmarks/requirements.lock
$(VENV)/ready benchmarks/.venv/ready:
	@$(PYTHON) -c 'import sys; sys.exit($(OLD))'
	@[ ! -L $(@D) ] || { echo "error: $(@D) is a link, and would be emptied where it leads to"; exit 1; }
	@echo "installing $< into $(@D), once: on Linux 6.2 GB, CUDA included; a few minutes"
	@set -e; if command -v uv >/dev/null; then \
	  uv venv --quiet --seed --clear --python $(PYTHON) $(@D); \
	  uv pip install --python $(@D)/bin/python --require-hashes --requirement $<; \
	else \
	  $(PYTHON) -m venv --clear $(@D) || { echo "$(NO_VENV)"; exit 1; }; \
	  $(@D)/bin/python -m pip install --disable-pip-version-check --require-hashes --requirement $<; \
	fi
	@touch $@
