# Each target sets up what it needs: Python >= 3.11, make and git are enough.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help demo strong own test fuzz repro doctor verify check check-params seeds few bench peers lock
help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

demo: .venv/ready    ## the whole pipeline offline, on drawn flowers, in the folder demo/
	python -m tools.demo

strong: .venv/ready  ## the experiment with one approach more, the strongest found (docs/result.md), in the folder strong/
	python -m tools.demo strong

own: .venv/ready     ## the same on your own images: make own IMAGES=folder (CLASS/IMAGE inside); BACKBONE=file needs no network
	python -m tools.own "$(IMAGES)" $(if $(BACKBONE),"$(BACKBONE)")

test: .venv/ready    ## lint, types and tests; SLOW=1: the slow ones too
	ruff check .
	ruff format --check .
	mypy
	pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(if $(SLOW),,-m "not slow")

repro: check-params  ## the real experiment: downloads 390 MB; the same as `dvc repro` inside the environment
	@[ -s .dvc/tmp/rwlock ] || rm -f .dvc/tmp/rwlock # a kill can leave it empty, and DVC then asks for help
	dvc repro

COUNT ?= 100000
TARGET ?= all
fuzz: .venv/ready    ## COUNT=100000 inputs for each reader of bytes from outside, or for TARGET; needs atheris
	python -m tests.fuzz $(TARGET) $(COUNT) 0

verify: .venv/ready  ## two runs from nothing, the same bytes? On drawn flowers; REAL=1: the experiment; AGAINST=REV: its metrics as there?
	python -m tools.verify $(if $(REAL),--real) $(if $(AGAINST),--against $(AGAINST))

check: .venv/ready   ## for CI: dvc.lock fits, the demo reproduces twice, params and metrics beside those of BASE=REV
	python -m tools.check $(BASE)

check-params: .venv/ready ## is every key of params.yaml known, and every value allowed? (a second)
	python -m tools.check --params

doctor: .venv/ready  ## do DVC's cache and the outs hold what DVC believes? After a power cut, or when a disk is failing
	python -m tools.doctor

SEEDS ?= 0 1 2
seeds: .venv/ready   ## the experiment over several seeds (SEEDS="0 1 2"): mean, range, interval, paired difference
	python -m tools.seeds $(SEEDS)

COUNTS ?= 1 2 5 10
few: .venv/ready     ## how few training images are enough? COUNTS="1 2 5 10" of each class, with each of SEEDS
	python -m tools.few "$(COUNTS)" "$(SEEDS)"

bench: .venv/ready   ## the pipeline against a plain script, a tenth of the experiment in about 10 minutes; FULL=1: all of it, about an hour
	python -m benchmarks.bench $(if $(FULL),--full)

peers: benchmarks/.venv/ready   ## the same, against fastai and timm too (in an environment of their own)
	benchmarks/.venv/bin/python -m benchmarks.bench --peers $(if $(FULL),--full)

COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header \
  --no-emit-index-url --no-emit-find-links --upgrade --quiet
lock: .venv/ready    ## pin the newest versions that pyproject.toml allows
	python -m pip install --quiet uv
	$(COMPILE) --group dev --output-file requirements.lock
	$(COMPILE) --group dev --group peers --constraints requirements.lock --output-file benchmarks/requirements.lock

# Made anew when the lock changes; --require-hashes refuses anything that is not in it.
.venv/ready: requirements.lock
benchmarks/.venv/ready: benchmarks/requirements.lock
.venv/ready benchmarks/.venv/ready:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@
