PROFILE ?= quick
PYTHON  ?= python3
BIN     := .venv/bin
OUT      = out/$(PROFILE)
SWEEP   ?= controls
CORES   ?= all
THREADS ?= 1
# one GPU, where there is one, is for one run at a time
DAG      = $(BIN)/snakemake --cores $(CORES) --resources gpu=1 --config profile=$(PROFILE) threads=$(THREADS)
RUN      = $(BIN)/papermill -p profile $(PROFILE)
TEST     = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -rs tests

.PHONY: help report sweep render html test test-all bench lock clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1: /p' Makefile

report: .venv/installed  ## run the notebooks at PROFILE (quick, cpu or paper) into out/PROFILE, CORES runs of THREADS threads at a time
	$(DAG) --forcerun analysis -- report
	@echo; echo "Executed notebooks:"; ls $(OUT)/*.ipynb
	@echo; echo "Figures and tables:"; ls $(OUT)/figures/*
	@echo; $(BIN)/python -c "import pandas as pd; print(pd.read_csv('$(OUT)/figures/04_main_table.csv', index_col=0).to_string())"
	@[ $(PROFILE) != quick ] || echo "Profile quick shows that the code works; it is no evidence about the paper. What was found stands in README.md."

sweep: .venv/installed  ## run the table SWEEP of sweeps.yaml (or controls, those of 06_features) at PROFILE; 06_features shows them after make report
	$(DAG) sweep=$(SWEEP) -- $(SWEEP)

render: .venv/installed  ## renew the committed records, figures, notebooks and README tables from a report at PROFILE=cpu
	@$(BIN)/python site/may_render.py $(PROFILE)
	$(MAKE) report
	mkdir -p records figures $(OUT)/records && cp -r $(OUT)/records/. records/
	rm -rf $(OUT)/figures  # other runs of these steps may have drawn last
	find records -type f ! -name '[!.]*.json' ! -name weights.safetensors -delete  # nothing half-written or set aside
	$(BIN)/python site/drop_weights.py
	$(RUN) notebooks/01_pretrain.ipynb $(OUT)/again.ipynb -p epsilon None
	$(RUN) notebooks/03_bn_scratch.ipynb $(OUT)/again.ipynb -p epsilon 0
	for notebook in notebooks/*.ipynb; do $(BIN)/papermill $$notebook $$notebook || exit 1; done
	cp $(OUT)/figures/* figures/
	$(BIN)/python site/schematic.py && $(BIN)/python site/refresh.py

html: .venv/installed  ## the committed notebooks and the README as a static site in out/html
	$(BIN)/python site/build.py

test: .venv/installed  ## lint, unit tests, nbval over the committed notebooks
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(TEST) -m "not slow"

test-all: .venv/installed  ## these and the slow ones, the quick report among them
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(TEST)

bench: .venv/installed  ## time and check the attack, the training step and the evaluation against other libraries
	$(BIN)/pip install -q -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/bench.py

lock: .venv/installed  ## renew requirements.lock, every package of the environment with its hashes, from requirements.txt
	$(BIN)/uv pip compile requirements.txt --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --custom-compile-command 'make lock' --output-file requirements.lock --quiet

# 3.14 has no wheel of one package yet, an older Python is none that numpy still supports
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo 'Python must be 3.11, 3.12 or 3.13 (make PYTHON=python3.12 names another one)'; exit 1; }
	$(PYTHON) -m venv .venv || { echo 'Python cannot make an environment: on Debian, apt install python3-venv'; exit 1; }
	$(BIN)/pip install --require-hashes -r requirements.lock
	$(BIN)/pip install --no-deps --no-build-isolation -e .
	touch $@

clean:  ## remove what runs have made (out/); the environment and what is committed stay
	rm -rf out
