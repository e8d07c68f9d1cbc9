# Every habit in one place. Needs python3, gcc, g++, cmake and make; everything else goes to .venv.
SHELL := /bin/bash
BIN := .venv/bin
DATA ?= mocap.npz
MOTIONS ?=

# A sourced ROS must not mix with the one in .venv.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH PYTHONHOME
unexport RMW_IMPLEMENTATION ROS_DISTRO ROS_VERSION VIRTUAL_ENV _ROS_WHEELS_BOOTSTRAP_COMPLETE
# Python compiles what is imported once, not at each start.
unexport PYTHONDONTWRITEBYTECODE
# Nothing that runs from here talks to a robot on the network.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST

.DEFAULT_GOAL := help
.PHONY: help env demo test golden params fuzz cuts vanish restarts replay-live latency soak lint format clean train-body-1s demo-bag bench cuda arm64

help: ## list the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

env: ## make or update .venv: ROS 2, torch and tools from PyPI, our messages generated into it
	@.ci/env.sh

demo: env ## predict the shipped recording: demo/report.json and a picture beside it
	$(BIN)/motion-predictor demo --bag demo/demo.mcap --params config/demo.yaml --out demo

test: env ## run the tests; ARGS='-k buffer -x' goes to pytest
	@logs=$$(mktemp -d) && trap 'rm -rf "$$logs"' EXIT && \
	ROS_DOMAIN_ID=$$(( $$$$ % 100 + 1 )) ROS_LOG_DIR="$$logs" ROS_PYTHON_CHECK_FIELDS=1 \
	$(BIN)/pytest $(ARGS)

params: env ## write config/predictor.yaml, docs/parameters.md and the launch arguments from the declarations
	@$(BIN)/python test/parameter_files.py

golden: env ## accept what the golden bag's report says now; prints what changed
	@$(BIN)/python test/golden_bag.py

fuzz: env ## N hostile messages of every source (default 100000); last line is JSON
	@PYTHONPATH=test $(BIN)/python -m fuzz fuzz $(or $(N),100000)

cuts: env ## cut the input of a live node CUTS times (default 200); last line is JSON
	@PYTHONPATH=test $(BIN)/python -m trials cuts $(or $(CUTS),200)

vanish: env ## lose a person LOSSES times (default 200), a tenth of them live; last line is JSON
	@PYTHONPATH=test $(BIN)/python -m fuzz vanish $(or $(LOSSES),200) --seed $(or $(SEED),1)

restarts: env ## kill -9 a live node and start it again, RESTARTS times (default 10); JSON
	@PYTHONPATH=test $(BIN)/python -m trials restarts $(or $(RESTARTS),10)

replay-live: env ## BAG (default: the demo's) without and with a live node; last line is JSON
	@PYTHONPATH=test $(BIN)/python -m trials replay-live --bag "$(or $(BAG),demo/demo.mcap)" \
		$(if $(PEOPLE),--people $(PEOPLE))

latency: env ## from an observation of PEOPLE (default 1) to its volume, live
	@PYTHONPATH=test $(BIN)/python -m trials latency --people $(or $(PEOPLE),1) --seconds $(or $(SECONDS),60)

soak: env ## PEOPLE (default: by bench capacity) at 15 Hz in front of a live node for MINUTES (default 60)
	@people='$(PEOPLE)' && if [ -z "$$people" ]; then people=$$($(BIN)/motion-predictor bench capacity --json | \
	$(BIN)/python -c 'import json, sys; print(max(json.load(sys.stdin)["people_15hz"], 1))'); fi && \
	PYTHONPATH=test $(BIN)/python -m trials soak --minutes $(or $(MINUTES),60) --people $$people --rate 15

bench: env ## time the whole line, crowds, caches, densities and voxels; DEVICE=cpu or cuda:0
	$(BIN)/motion-predictor bench capacity --device $(or $(DEVICE),auto)
	$(BIN)/motion-predictor bench pipeline --device $(or $(DEVICE),auto)
	$(BIN)/motion-predictor bench persons --device $(or $(DEVICE),auto)
	$(BIN)/motion-predictor bench motion-deq --device $(or $(DEVICE),auto)
	$(BIN)/motion-predictor bench cache --device $(or $(DEVICE),auto)
	$(BIN)/motion-predictor bench density --device $(or $(DEVICE),auto)
	$(BIN)/motion-predictor bench volume

# Not `env`: that brings ROS, and where pip serves it a torch without CUDA; neither is needed here.
CUDA_PYTHON := $(or $(PYTHON),$(BIN)/python)
CUDA_BENCH := $(CUDA_PYTHON) -m motion_predictor_ros.cli bench

cuda: ## on a machine with a GPU: its tests, then benches on DEVICE (default cuda:0); PYTHON=python3, say
	@$(CUDA_PYTHON) -c 'import sys, torch; torch.cuda.is_available() or sys.exit(f"make cuda: torch \
	{torch.__version__} of {sys.executable} sees no GPU; nothing was run. make cuda PYTHON=... takes another one")'
	$(CUDA_PYTHON) -m pytest -m cuda -rs $(shell grep -rl 'mark\.cuda' --include='test_*.py' test)
	for graph in '' --cuda-graph; do for bench in pipeline persons motion-deq density; do \
		$(CUDA_BENCH) $$bench --device $(or $(DEVICE),cuda:0) $$graph || exit 1; \
	done; done
	$(CUDA_BENCH) cache --device $(or $(DEVICE),cuda:0)

arm64: env ## tests of models, kernels and volumes as on arm64, emulated (root, debootstrap, qemu-user-static); slow
	@.ci/arm64.sh $(ARGS)

lint: env ## check format, style, types and the direction of imports
	@failed=0; for check in 'ruff check' 'ruff format --check --output-format concise' mypy \
	'lint-imports --no-logo'; do \
		echo "== $$check"; $(BIN)/$$check || failed=1; \
	done; exit $$failed

format: env ## format the Python files and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove .venv and everything made by builds and tools; runs/ stays
	rm -rf .venv build install log *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

train-body-1s: env ## train the shipped model on DATA (npz of clips), in two passes; resumes
	$(BIN)/motion-predictor train motion-deq --recipe body_1s --data "$(DATA)" \
		--out runs/first --resume
	$(BIN)/motion-predictor train motion-deq --recipe body_1s_second --data "$(DATA)" \
		--start-from runs/first/best.safetensors --out runs/second --resume

demo-bag: env ## make demo/demo.mcap from MOTIONS (default: the clips that pybullet ships)
	PYTHONPATH=test $(BIN)/python -m demo_bag $(if $(MOTIONS),--source "$(MOTIONS)") \
		--out demo/demo.mcap
