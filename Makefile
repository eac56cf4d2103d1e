# Targets for people and for .ci/run. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules

# The version is set by the linker instead, so a build also works in a checkout
# that git distrusts and in an exported tree.
GOFLAGS ?=
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

MODEL ?= smollm2
PROMPT ?= What is the boiling point of water in Celsius?
# As they were written: a prompt may have quotes and dollars in it.
export RUN_MODEL := $(value MODEL)
export RUN_PROMPT := $(value PROMPT)

COUNT ?= 20000
BENCH ?= .
BENCH_COUNT ?= 6
OLD ?= old.txt
NEW ?= new.txt
PACKAGES ?= ./...
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

TOOL := go tool -modfile=tools/go.mod
# Prints go test's own lines, then what was skipped and the number of tests.
TEST := $(TOOL) gotestsum --format standard-quiet --

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ use

.PHONY: build
build: ## Build bin/dunlin, one static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/dunlin ./cmd/dunlin

.PHONY: run
run: build ## Answer PROMPT="..." with the default model, which is fetched once
	@[[ -f $$RUN_MODEL ]] || bin/dunlin pull "$$RUN_MODEL" >/dev/null
	@bin/dunlin run "$$RUN_MODEL" "$$RUN_PROMPT"

.PHONY: bridge
bridge: ## What package cbind needs: Transformers and torch (1.7 GB, once), a library, a helper; Linux
	scripts/bridge.sh

##@ test

.PHONY: test
test: build ## All tests, with the real model (fetched once, or DUNLIN_TEST_MODEL)
	@model=$${DUNLIN_TEST_MODEL:-$$(bin/dunlin pull smollm2)}; \
	echo "DUNLIN_TEST_MODEL=$$model $(TEST) -count=1 -timeout=14m $(PACKAGES)"; \
	DUNLIN_TEST_MODEL=$$model $(TEST) -count=1 -timeout=14m $(PACKAGES)

.PHONY: test-short
test-short: ## The quick tests, without a model
	$(TEST) -short $(PACKAGES)

.PHONY: test-gemma
test-gemma: build ## Gemma 3 held to Transformers (fetched once, or DUNLIN_TEST_GEMMA)
	@model=$${DUNLIN_TEST_GEMMA:-$$(bin/dunlin pull gemma3-270m)}; \
	DUNLIN_TEST_GEMMA=$$model $(TEST) -count=1 -timeout=20m -run Gemma ./runtime ./models ./cmd/dunlin

.PHONY: test-purego
test-purego: ## The quick tests without assembly
	CGO_ENABLED=0 $(TEST) -short -tags purego $(PACKAGES)

.PHONY: race
race: build ## The quick tests and 32 callers of the real model under the race detector, which needs a C compiler
	CGO_ENABLED=1 $(TEST) -short -race -timeout=20m $(PACKAGES)
	@model=$${DUNLIN_TEST_MODEL:-$$(bin/dunlin pull smollm2)}; \
	CGO_ENABLED=1 DUNLIN_TEST_MODEL=$$model $(TEST) -race -timeout=20m -run ConcurrentCallersRealModel ./runtime

.PHONY: test-pool
test-pool: ## More models than the resident limit has room for, for a minute: 5 GB of disk, and a C compiler
	DUNLIN_TEST_POOL=1 $(TEST) -count=1 -v -run '^TestManyModelsForAMinute$$' ./runtime
	CGO_ENABLED=1 DUNLIN_TEST_POOL=1 $(TEST) -race -count=1 -v -run '^TestManyModelsForAMinute$$' ./runtime

# The models are made once: a tiny one, Hugging Face directories of the real ones (1.6 GB),
# and one whose matrices torch can use where they lie.
BRIDGE := $(or $(DUNLIN_BRIDGE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dunlin/bridge)
BRIDGE_MODELS := $(BRIDGE)/models

.PHONY: bridge-models
bridge-models: build bridge
	@smollm2=$${DUNLIN_TEST_MODEL:-$$(bin/dunlin pull smollm2)}; gemma=$${DUNLIN_TEST_GEMMA:-$$(bin/dunlin pull gemma3-270m)}; \
	make_model() { TQDM_DISABLE=1 $(BRIDGE)/venv/bin/python cbind/testdata/models.py "$$@"; }; \
	make_model tiny $(BRIDGE_MODELS)/tiny; \
	make_model convert $$smollm2 $(BRIDGE_MODELS)/smollm2; \
	make_model f16 $$smollm2 $(BRIDGE_MODELS)/smollm2-f16; \
	make_model convert $$gemma $(BRIDGE_MODELS)/gemma3

.PHONY: test-bridge
test-bridge: bridge-models ## The bridge held to plain Python, in process and isolated, with cgo, without, and under the race detector
	@export DUNLIN_TEST_MODEL=$${DUNLIN_TEST_MODEL:-$$(bin/dunlin pull smollm2)} DUNLIN_TEST_GEMMA=$${DUNLIN_TEST_GEMMA:-$$(bin/dunlin pull gemma3-270m)}; \
	export DUNLIN_TEST_BRIDGE=$(BRIDGE_MODELS); \
	CGO_ENABLED=0 $(TEST) -count=1 -timeout=30m ./cbind/...; \
	CGO_ENABLED=0 $(TEST) -count=1 -timeout=30m -run 'Transformers|Verify' ./cmd/dunlin; \
	CGO_ENABLED=1 $(TEST) -count=1 -timeout=30m -run 'Scheme|Conformance/in_process|SameBitsAsPython/smollm2|Killed' ./cbind; \
	CGO_ENABLED=1 $(TEST) -race -count=1 -timeout=30m -run 'Released|Errors|Many|Killed' ./cbind/...

.PHONY: fuzz
fuzz: ## Each fuzz target with COUNT inputs
	scripts/fuzz.sh $(COUNT)

.PHONY: fuzz-tokenizers
fuzz-tokenizers: ## The tokenizers against Hugging Face's on COUNT random texts a family, which needs Python
	scripts/fuzz-tokenizers.sh $(COUNT)

.PHONY: test-clients
test-clients: build .bin/clients/.done ## The HTTP surface against OpenAI's Python client
	@model=$${DUNLIN_TEST_MODEL:-$$(bin/dunlin pull smollm2)}; \
	DUNLIN_TEST_MODEL=$$model PYTHONPATH=$(CURDIR)/.bin/clients DUNLIN_OPENAI_PYTHON=python3 \
	$(TEST) -count=1 -v -run OpenAIClient ./httpapi ./cmd/dunlin

# In a folder of its own, not a venv: some systems' Python has pip and no venv.
.bin/clients/.done: tools/clients.txt
	rm -rf .bin/clients
	python3 -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --root-user-action=ignore --target .bin/clients -r $<
	touch $@

.PHONY: bench
bench: ## Benchmarks that match BENCH, BENCH_COUNT times, for benchstat
	go test -run '^$$' -bench '$(BENCH)' -count $(BENCH_COUNT) -benchmem $(PACKAGES)

.PHONY: bench-tokenizers
bench-tokenizers: ## Encoding beside Hugging Face's tokenizers, which needs Python
	scripts/bench-tokenizers.py

.PHONY: bench-peers
bench-peers: build ## dunlin beside llama.cpp and OpenVINO GenAI, into docs/benchmarks.md
	scripts/bench-peers.py

.PHONY: bench-compare
bench-compare: ## Compare the benchmark outputs OLD and NEW
	$(TOOL) benchstat $(OLD) $(NEW)

##@ keep

.PHONY: lint
lint: ## Lint, and vet the generators
	$(TOOL) golangci-lint run
	go -C tensor/internal/kernel/_asm vet ./...

.PHONY: fmt
fmt: ## Format the code
	$(TOOL) golangci-lint fmt

.PHONY: check-fmt
check-fmt: ## Demand formatted code
	$(TOOL) golangci-lint fmt --diff

.PHONY: generate
generate: ## Write the generated files
	go generate ./...

.PHONY: check-generate
check-generate: ## Demand that the generated files are current
	scripts/check-generate.sh

.PHONY: deps-check
deps-check: ## Hold the imports of package runtime and the dependencies to their lists
	scripts/deps-check.sh

.PHONY: tidy-check
tidy-check: ## Demand tidy go.mod files
	go mod tidy -diff
	go -C tools mod tidy -diff
	go -C tensor/internal/kernel/_asm mod tidy -diff

.PHONY: cross
cross: ## Build and vet for every platform, without cgo
	@for p in $(PLATFORMS); do \
		echo "$$p"; \
		export CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/}; \
		go build ./...; \
		go vet ./...; \
	done
	CGO_ENABLED=0 go vet -tags purego ./...

.PHONY: vuln
vuln: ## Known vulnerabilities in what is linked (asks an online database)
	go run golang.org/x/vuln/cmd/govulncheck@latest ./...

.PHONY: ci
ci: ## Everything that CI does
	.ci/run

.PHONY: clean
clean: ## Remove what was built (the model stays in its cache)
	rm -rf bin .bin
