# Every target is a thin name for a cargo call or a script. ARGS= is handed on.
.DEFAULT_GOAL := help
.PHONY: help run build test test-clients test-console test-image image release deploy screenshots clients soak hostile sbom lint fmt bench bench-futoin bench-receivers clean-tools

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
		awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

run: ## Build in release and serve here, without configuration (ARGS=--help)
	@echo '==> building in release, then: eventstream serve $(ARGS)'
	@cargo build --release --bin eventstream
	@exec cargo run --quiet --release --bin eventstream -- serve $(ARGS)

build: ## Build in release
	cargo build --release --bin eventstream

test: ## Tools, lints and all tests; CI also runs test-image
	@scripts/test.sh

test-clients: ## The five clients against real services (part of make test)
	@scripts/tools.sh
	@cargo build --bin eventstream && cargo build -p eventstream-conformance
	@scripts/with-services.sh scripts/clients.sh

test-console: ## The console in Chromium against a real service (part of make test)
	@scripts/tools.sh
	@cargo build --bin eventstream
	@scripts/with-services.sh tests/console/test.sh

screenshots: ## Draw the pictures of the console in docs/ anew
	@scripts/tools.sh
	@cargo build --bin eventstream
	@scripts/with-services.sh tests/console/screenshots.sh

image: ## Make the OCI image of the static program, in target/image
	@scripts/tools.sh
	@program=$$(scripts/static.sh) && scripts/image.sh target/image amd64=$$program

test-image: ## Start and drive the image's program, as a container is (part of CI)
	@scripts/tools.sh
	@export PROFILE=quick; program=$$(scripts/static.sh) && scripts/test-image.sh amd64=$$program

release: ## Everything that is published: programs, images, SBOMs, chart, checksums
	@scripts/tools.sh
	@scripts/release.sh $(ARGS)

deploy: ## Check what is in deploy/ (part of make test)
	@scripts/tools.sh
	@cargo build --quiet --bin eventstream && scripts/deploy.sh

clients: ## Generate the clients' code from proto/
	@scripts/tools.sh
	@for language in rust python typescript go; do clients/$$language/generate.sh || exit 1; done

soak: ## 100 kills, SOAK_MINUTES (30) of load and of upkeep, 100 000 adversarial events per engine
	@scripts/soak.sh

hostile: ## Attack services, a bystander beside: the table of SECURITY.md (minutes)
	@scripts/hostile.sh

sbom: ## What the static programs are made of, as CycloneDX, in target/
	@for architecture in x86_64 aarch64; do scripts/sbom.sh $$architecture || exit 1; done

lint: ## Format, clippy, rustdoc, dependencies, contract
	@scripts/tools.sh
	@scripts/lint.sh

fmt: ## Format the code and the contract
	cargo fmt --all
	@scripts/tools.sh
	.cache/tools/bin/buf format --write proto

bench: ## Run the load program in release (ARGS=--help)
	cargo run --release --features bench --bin load -- $(ARGS)

bench-futoin: ## Run the original's server and ours side by side (ARGS=--help)
	@scripts/tools.sh
	cargo run --release --features bench --bin load -- futoin $(ARGS)

bench-receivers: ## Run the five clients' receivers side by side (ARGS=--help)
	@scripts/with-services.sh scripts/clients.sh recorders
	cargo run --release --features bench --bin load -- receivers $(ARGS)

clean-tools: ## Remove the tools that the tests installed
	rm -rf .cache/tools
