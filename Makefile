# One set of build flags everywhere (the defaults): another set would compile Caddy a second
# time, which takes minutes.
.DEFAULT_GOAL := help
.PHONY: help build demo run test test-engine test-caddy test-clients test-ops race lint fmt pictures chaos fuzz bench bench-micro need-go need-cc need-redis need-postgres need-npm need-prometheus need-chromium

GO      ?= go
ENGINE  := ./internal/... ./blog/...
CADDY   := ./caddymodule/... ./cmd/...
CLIENTS := test/clients
FUZZ    ?= 30s

GOFUMPT     := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

help: ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 14

build: need-go ## the binary, as bin/caddy-ollama
	$(GO) build -o bin/caddy-ollama ./cmd/caddy-ollama

demo: need-go ## simulated nodes and clients: http://localhost:8080/status/, and `caddy-ollama top`
	$(GO) run ./cmd/caddy-ollama up --demo

run: need-go ## the gateway on http://localhost:8080, no file needed
	$(GO) run ./cmd/caddy-ollama up

test: test-engine test-ops test-caddy test-clients ## everything that CI checks

test-engine: need-go need-cc need-redis need-postgres ## the packages without Caddy, under the race detector
	$(GO) vet $(ENGINE)
	$(GO) test -race -timeout 20m $(ENGINE)

test-caddy: need-go need-redis need-postgres need-prometheus need-chromium $(CLIENTS)/node_modules/.package-lock.json ## the Caddy module, the commands and the binary, end to end
	$(GO) vet $(CADDY)
	$(GO) test -timeout 30m $(CADDY)

test-ops: need-go need-prometheus ## rules, alerts and dashboards of ops/
	promtool check config ops/prometheus/prometheus.yml
	promtool check rules ops/prometheus/rules/*.yml
	promtool test rules ops/prometheus/tests/*.yml
	$(GO) vet ./ops
	$(GO) test ./ops

# Real clients drive the built binary; they are a module and npm packages of their own.
test-clients: need-go $(CLIENTS)/node_modules/.package-lock.json ## unmodified clients of all dialects against the built binary
	cd $(CLIENTS) && $(GO) vet ./...
	cd $(CLIENTS) && $(GO) test -count=1 -timeout 10m ./...

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package-lock.json $(CLIENTS)/package.json | need-npm
	cd $(CLIENTS) && npm ci --ignore-scripts --loglevel=error
	@touch $@

race: need-go need-cc need-redis need-postgres need-prometheus need-chromium $(CLIENTS)/node_modules/.package-lock.json ## all packages under the race detector: compiles Caddy once more
	$(GO) test -race -timeout 40m ./...

lint: need-go ## gofumpt, vet and staticcheck, at pinned versions
	@test -z "$$($(GO) run $(GOFUMPT) -l . | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

fmt: need-go ## rewrites what lint would complain of
	$(GO) run $(GOFUMPT) -w .

pictures: need-go need-chromium ## the pictures of docs/, in some ten minutes
	$(GO) test ./cmd/caddy-ollama -run 'Test(Blog|Status)_InABrowser' -count=1 -timeout 30m -args -pictures $(CURDIR)/docs/img

chaos: need-go ## random faults under 200 clients for TIME (20s)
	$(GO) test -run TestChaos -v -timeout 30m ./caddymodule -chaos.time $(or $(TIME),20s)

fuzz: need-go ## each fuzzer for FUZZ (30s)
	@$(GO) list $(ENGINE) ./caddymodule | while read -r pkg; do \
		$(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' | while read -r name; do \
			echo "$$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) $$pkg || exit 1; \
		done || exit 1; \
	done

bench: build ## the gateway beside plain Caddy, into bench/results.md: see bench/README.md
	$(GO) run ./bench -binary bin/caddy-ollama -out bench/results.md

bench-micro: need-go ## the benchmarks of the engine packages
	$(GO) test -run '^$$' -bench . -benchmem $(ENGINE)

need-go:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or newer is needed: see https://go.dev/doc/install"; exit 1; }

# The race detector needs a C compiler.
need-cc:
	@command -v gcc >/dev/null || command -v clang >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -qy gcc libc6-dev; } || \
		{ echo "a C compiler is needed for the race detector: install gcc"; exit 1; }

# Tests start servers of their own. Where installing starts one, too, nothing uses that.
need-redis:
	@command -v redis-server >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -qy redis-server; } || \
		{ echo "a redis-server is needed for the tests of what gateways share: install redis-server (7.0 or newer)"; exit 1; }

# Debian has the server's programs outside the PATH: the tests look there, too.
need-postgres:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -qy --no-install-recommends postgresql; } || \
		{ echo "PostgreSQL is needed for the tests of the blog's store: install postgresql (14 or newer)"; exit 1; }

need-prometheus:
	@command -v promtool >/dev/null && command -v prometheus >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -qy --no-install-recommends prometheus; } || \
		{ echo "prometheus and its promtool are needed for the tests of rules and alerts: install prometheus (2.42 or newer)"; exit 1; }

# A browser looks at the status page and at the blog.
need-chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -qy --no-install-recommends chromium; } || \
		{ echo "a Chromium is needed for the tests of the status page and the blog: install chromium"; exit 1; }

# The npm clients want node 20; where it is older, npm brings another one for the tests alone.
need-npm:
	@command -v npm >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -qy --no-install-recommends nodejs npm; } || \
		{ echo "npm is needed for the clients that are npm packages, and for axe-core: install node 20 or newer and npm"; exit 1; }
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' || \
		ls $(CLIENTS)/runtime/node_modules/node-*/bin/node >/dev/null 2>&1 || \
		{ cd $(CLIENTS)/runtime && npm ci --ignore-scripts --loglevel=error; }
