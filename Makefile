# Two commands: `make export` gives the int8 file and its figures, `make test` runs the suite.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := model export quantize benchmarks
# A folder of labelled images to measure on, as in `make export DATA=ISIC2017`; synthetic if empty.
DATA ?=

.PHONY: export results weights test lint format clean

# The stamp depends on what decides the installed packages, so a second run installs nothing.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[all,dev]'
	touch $@

export: $(VENV)/installed
	$(BIN)/egeunet-export --format tflite --int8 --out build
	$(BIN)/egeunet-bench build/egeunet_int8.tflite $(if $(DATA),--data $(DATA)) \
	    --json build/bench.json

# The tables and the picture of README.md and docs/, measured anew on real images.
results: $(VENV)/installed
	$(if $(DATA),,$(error give the images: make results DATA=ISIC2017))
	$(BIN)/egeunet-bench --data $(DATA) --out build \
	    --json build/results.json --html build/results.html --markdown docs/files.md
	$(BIN)/egeunet-bench --recipes --data $(DATA) --out build --runtime litert-xnnpack litert-arm64 \
	    --threads 1 --markdown docs/recipes.md
	$(BIN)/egeunet-evaluate model/shipped/egeunet_isic2017.safetensors --data $(DATA) \
	    --page docs/results.md
	$(BIN)/python -m egeunet.benchmarks.readme_table build/results.json README.md
	$(BIN)/egeunet-bench build/egeunet_int8.tflite --limit 4 --quick \
	    --pictures docs/pictures/synthetic.png

# The shipped weights and the recipes of their int8 files, trained anew: docs/training.md says what
# each step does. What was stopped goes on from its checkpoint.
W := build/weights
IMAGES = $(or $(DATA),$(error give the images: make weights DATA=ISIC2017))
TRAIN = $(BIN)/egeunet-train --data $(IMAGES) --out $(@D) \
    $(if $(wildcard $(@D)/checkpoint.pt $(@D)/phase1/checkpoint.pt),--resume)
FINETUNE = $(BIN)/egeunet-quantize finetune --data $(IMAGES) --out $@ \
    $(if $(wildcard $(@:.safetensors=.run)/checkpoint.pt),--resume)

weights: $(W)/int8.safetensors $(W)/small.safetensors

$(W)/four/weights.safetensors: | $(VENV)/installed
	$(TRAIN) --recipe isic2017
$(W)/five.safetensors: $(W)/four/weights.safetensors
	$(FINETUNE) --plan isic2017 --weights $<
$(W)/six.safetensors: $(W)/five.safetensors
	$(FINETUNE) --plan isic2017 --weights $(<:.safetensors=.weights.safetensors)
$(W)/seven/weights.safetensors: $(W)/six.safetensors
	$(TRAIN) --recipe isic2017-pasted --init $(<:.safetensors=.weights.safetensors)
$(W)/int8.safetensors $(W)/small.safetensors: $(W)/%.safetensors: $(W)/seven/weights.safetensors
	$(FINETUNE) --plan isic2017-$* --weights $<

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/typecheck/egeunet
	for package in $(PACKAGES); do ln -sfn ../../../$$package build/typecheck/egeunet/$$package; done
	$(BIN)/mypy $(addprefix -p egeunet.,$(PACKAGES))

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build $(VENV) *.egg-info
