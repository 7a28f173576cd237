# The index of everything that is done with this repository; cargo does the work.

export CARGO_TARGET_DIR ?= $(HOME)/.cache/gumshoe/target
CARGO ?= cargo
export CORPUS ?=
FUZZ_CASES ?= 20000

.DEFAULT_GOAL := help
.PHONY: help build format check test conformance demo bench fuzz

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build every binary, optimised
	$(CARGO) build --release --locked --workspace --bins

format: ## Format code and protos
	$(CARGO) fmt --all
	@if command -v buf >/dev/null; then cd proto && buf format -w; fi

check: ## Formatting, lints, protos, dependencies' licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	bash tests/run --only protos
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check; else echo "cargo-deny is not installed: licences not checked"; fi

test: ## Every test; installs and starts what the tests need
	bash tests/run

conformance: ## Real logs: make conformance CORPUS=folder
	@test -n "$(CORPUS)" || { echo "say where the logs are: make conformance CORPUS=folder" >&2; exit 2; }
	bash tests/run --only conformance --corpus "$(CORPUS)"

demo: ## Sample logs into a running server, then a look at them (DEMO_KEEP=0 stops it at the end)
	bash tests/demo

bench: ## Ingest side by side with DuckDB and ClickHouse, reading with DuckDB (BENCH_SIZE=1GB), detection on real logs (CORPUS=folder)
	bash tests/bench/run

fuzz: ## Property tests of parsers and policies with FUZZ_CASES cases each, and libFuzzer where cargo-fuzz is installed
	PROPTEST_CASES=$(FUZZ_CASES) $(CARGO) test --locked -p gumshoe-records -p gumshoe-iam -p gumshoe-detections --test laws --test documents --test decisions
	@if command -v cargo-fuzz >/dev/null; then \
		for crate in libs/iam libs/records; do \
			for target in $$(cd $$crate && $(CARGO) +nightly fuzz list); do \
				(cd $$crate && $(CARGO) +nightly fuzz run $$target -- -max_total_time=60) || exit 1; \
			done; \
		done; \
	fi
