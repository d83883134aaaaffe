PROFILE ?= quick
PYTHON  ?= python3
BIN     := .venv/bin
OUT      = out/$(PROFILE)
# what a notebook prints, its progress and ETA among it, goes to the terminal as it comes
RUN      = $(BIN)/papermill --stdout-file - --stderr-file - -p profile $(PROFILE)

define STRIP
import glob, nbformat
for path in glob.glob("notebooks/*.ipynb"):
    notebook = nbformat.read(path, as_version=4)
    for part in (notebook, *notebook.cells):  # the dates and durations of papermill
        part.metadata.pop("papermill", None)
    nbformat.write(notebook, path)
endef
define CONTROLS
import bnat_utils as bnat
for label in bnat.CONTROLS:
    step, settings = bnat.control(label, "$(PROFILE)")
    print({"finetune": "02_bn_finetune", "scratch": "03_bn_scratch"}[step], *(f"-p {key} {value}" for key, value in settings.items()))
endef
export STRIP CONTROLS

.PHONY: help report controls render test bench clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*  ## /\1: /p' Makefile

report: .venv/installed  ## run the notebooks at PROFILE (quick, cpu or paper) into out/PROFILE
	@mkdir -p $(OUT)
	$(RUN) notebooks/01_pretrain.ipynb $(OUT)/01_pretrain_standard.ipynb -p epsilon 0
	$(RUN) notebooks/01_pretrain.ipynb $(OUT)/01_pretrain_at.ipynb -p epsilon None
	$(RUN) notebooks/02_bn_finetune.ipynb $(OUT)/02_bn_finetune.ipynb
	$(RUN) notebooks/03_bn_scratch.ipynb $(OUT)/03_bn_scratch_clean.ipynb -p epsilon 0
	$(RUN) notebooks/03_bn_scratch.ipynb $(OUT)/03_bn_scratch_at.ipynb
	$(RUN) notebooks/04_robustness.ipynb $(OUT)/04_robustness.ipynb
	@echo; echo "Executed notebooks:"; ls $(OUT)/*.ipynb
	@echo; echo "Figures and tables:"; ls $(OUT)/figures/*
	@echo; $(BIN)/python -c "import pandas as pd; print(pd.read_csv('$(OUT)/figures/04_main_table.csv', index_col=0).T.to_string())"

controls: .venv/installed  ## run the controls of 04_robustness at PROFILE, a papermill call each; then make report shows them
	@mkdir -p $(OUT)/controls
	$(BIN)/python -c "$$CONTROLS" | while read notebook parameters; do \
	  $(RUN) notebooks/$$notebook.ipynb "$(OUT)/controls/$$(echo $$notebook $$parameters | sed 's/-p //g; s/[^a-z0-9_.+]/_/g').ipynb" \
	    $$parameters </dev/null || exit 1; done

render: report  ## renew the committed records, figures and notebooks from a report at PROFILE
	mkdir -p records figures && cp -r $(OUT)/records/* records/
	find records -type f ! -name '[!.]*.json' -delete  # nothing half-written, nothing set aside
	$(RUN) notebooks/01_pretrain.ipynb notebooks/01_pretrain.ipynb -p epsilon 0
	$(RUN) notebooks/02_bn_finetune.ipynb notebooks/02_bn_finetune.ipynb
	$(RUN) notebooks/03_bn_scratch.ipynb notebooks/03_bn_scratch.ipynb
	$(RUN) notebooks/04_robustness.ipynb notebooks/04_robustness.ipynb
	$(BIN)/python -c "$$STRIP"
	cp $(OUT)/figures/* figures/

test: .venv/installed  ## unit tests, the quick report through papermill, nbval over the committed notebooks
	$(BIN)/python -m pytest tests

bench: .venv/installed  ## time and check the attack, the training step and the evaluation against other libraries
	$(BIN)/pip install -q -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/bench.py

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv || { echo 'Python cannot make an environment: on Debian, apt install python3-venv'; exit 1; }
	$(BIN)/pip install -r requirements.txt
	touch $@

clean:  ## remove what runs have made (out/); the environment and what is committed stay
	rm -rf out
