# Every target sets up what it needs, once: the stamps in .venv are renewed when pyproject.toml changes.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/pip install -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test check demo picture bench evaluate listen train proto clean

help:
	@echo 'make run       set up, and start the gateway on its defaults; it prints what to put into Kamailio'
	@echo '               make run ARGS="--config deploy/config.example.yaml"'
	@echo 'make demo      one call with a noisy recording: out/before.wav, out/after.wav, out/spectrograms.png, figures'
	@echo 'make test      set up (programs for the interop tests too, where it may), and run every check and test'
	@echo 'make check     only ruff and mypy'
	@echo 'make bench     how many legs one media core holds, beside rtpengine: takes minutes, wants an idle machine'
	@echo '               make bench ARGS="--quick --json out/capacity.json"'
	@echo 'make evaluate  our networks beside RNNoise, DeepFilterNet and others, on held-out audio: tables and a plot'
	@echo '               make evaluate ARGS="--quick"'
	@echo 'make listen    out/listen.html: the evaluated clips to listen to, with a blind test'
	@echo 'make train     train a network: make train ARGS="--model standard --rate 8000 --minutes 120 --resume --compile"'
	@echo 'make picture   the demo, and its picture as docs/before-after.png'
	@echo 'make proto     check proto/ and renew gateway/_pb/, after a change of proto/denoise.proto'
	@echo 'make clean     remove what was set up'

run: .venv/.run
	@exec $(BIN)/denoise-gateway serve $(ARGS)

test: check
	@.ci/install-peers
	$(BIN)/python -m pytest -rs $(ARGS)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: .venv/.dev
	@$(BIN)/python -m loadtest.demo $(ARGS)

picture: demo
	cp out/spectrograms.png docs/before-after.png

bench: .venv/.dev
	@$(BIN)/python -m loadtest capacity $(ARGS)

evaluate: .venv/.evaluate
	$(BIN)/python -m models.rivals fetch
	$(BIN)/python -m models.evaluate $(ARGS)

listen: .venv/.evaluate
	$(BIN)/python -m models.listen $(ARGS)

train: .venv/.train
	$(BIN)/python -m models.train $(ARGS)

proto: .venv/.dev
	$(BIN)/buf lint proto
	$(BIN)/python -m grpc_tools.protoc -Igateway/_pb=proto --plugin=$(BIN)/protoc-gen-mypy \
		--plugin=$(BIN)/protoc-gen-mypy_grpc --python_out=. --grpc_python_out=. --mypy_out=quiet:. \
		--mypy_grpc_out=quiet:. proto/denoise.proto

clean:
	rm -rf .venv out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say which: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv 2>/dev/null || { rm -rf .venv; .ci/install-venv && $(PYTHON) -m venv .venv; }

.venv/.run: pyproject.toml | .venv/bin/pip
	@echo 'setting up .venv ...'
	@$(PIP) -e .
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/pip
	@echo 'setting up .venv with everything for tests ...'
	@$(PIP) -e '.[dev,bench]'
	@touch .venv/.run $@

.venv/.evaluate: models/requirements-evaluate.txt .venv/.dev
	@echo 'setting up .venv for evaluation ...'
	@$(PIP) -r models/requirements-evaluate.txt
	@touch $@

.venv/.train: models/requirements-train.txt .venv/.dev
	@echo 'setting up .venv for training ...'
	@$(PIP) -r models/requirements-train.txt
	@touch $@
