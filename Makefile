# Shortcuts for people; .ci/run holds the checks and needs no make.
.DEFAULT_GOAL := help
T     ?= 30s
REF   ?= main
FROM  ?= HEAD~1
COUNT ?= 10
TOOL  := go tool -modfile=internal/tools/go.mod

.PHONY: help
help: ## list targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: fmt
fmt: ## format (gofumpt, gci)
	$(TOOL) golangci-lint fmt ./...

.PHONY: gen
gen: ## make the protobuf code
	$(TOOL) buf generate transport/proto --template transport/proto/buf.gen.yaml

.PHONY: build cross lint test race gen-check tidy-check nested e2e
build: ## compile everything
cross: ## compile the command line for other systems
lint: ## golangci-lint and the import rules
test: ## all packages
race: ## the core packages with -race -shuffle=on
gen-check: ## committed protobuf code is current
tidy-check: ## every go.mod is tidy
nested: ## tests of the nested modules
e2e: ## the command line end to end
build cross lint test race gen-check tidy-check nested e2e:
	.ci/run $@

.PHONY: short
short: ## the inner loop
	go test -short ./...

.PHONY: man
man: ## write the manual pages to bin/man
	go run ./cmd/mq man bin/man

.PHONY: fuzz
fuzz: ## each fuzz target in turn for T (default 30s)
	@set -e; for pkg in $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(T) $$pkg; \
	  done; done

.PHONY: kill
kill: ## a million lines through a broker that is killed three times
	go test -count=1 -v -run TestKilledBrokerLosesNothing ./cmd/mq

.PHONY: kill-cluster
kill-cluster: ## a million lines through three brokers that are killed in turn, and a rolling restart
	MQ_TEST_LONG=1 go test -count=1 -v -timeout 30m -run 'KilledBrokersOfAClusterLoseNothing|RollingRestart' ./cmd/mq

.PHONY: upgrade
upgrade: ## three brokers of the build FROM (default HEAD~1) are replaced under load by this one
	MQ_TEST_LONG=1 MQ_TEST_UPGRADE=$(FROM) go test -count=1 -v -timeout 15m -run RollingUpgrade ./cmd/mq

.PHONY: kill-groups
kill-groups: ## minutes of kills of members of a group, also of ones that handle many records at a time, and of brokers
	MQ_TEST_LONG=1 go test -count=1 -v -timeout 30m -run 'MembersThatComeAndGo|KilledMembersOfAGroup|KilledMembersKeep' ./cmd/mq

.PHONY: members
members: ## what members of groups must do, on three brokers
	MQ_TEST_LONG=1 go test -count=1 -v -run MembersConformOnThreeBrokers .

.PHONY: bounds
bounds: ## 20 GB with 1 GB of retention, twice: long, and writes as much
	go test -tags long -count=1 -v -timeout 2h -run TestDiskStaysBounded ./cmd/mq

.PHONY: bench
bench: ## benchmarks, COUNT times (default 10)
	go test -run '^$$' -bench . -benchmem -count=$(COUNT) ./...

.PHONY: bench-compare
bench-compare: ## benchmarks of REF (default main) against the work tree, with benchstat
	@set -e; dir=$$(mktemp -d); trap 'git worktree remove --force '$$dir/ref EXIT; \
	git worktree add -q --detach $$dir/ref $(REF); \
	(cd $$dir/ref && go test -run '^$$' -bench . -benchmem -count=$(COUNT) ./... > $$dir/old.txt); \
	go test -run '^$$' -bench . -benchmem -count=$(COUNT) ./... > $$dir/new.txt; \
	$(TOOL) benchstat $$dir/old.txt $$dir/new.txt

.PHONY: absence
absence: ## a broker that is away for 30 seconds is survived
	MQ_TEST_LONG=1 go test -count=1 -v -run BrokerAbsentForHalfAMinute .

.PHONY: vuln
vuln: ## known vulnerabilities in what is called
	$(TOOL) govulncheck ./...

.PHONY: cover
cover: ## coverage by package
	go test -coverprofile=coverage.out ./... && go tool cover -func=coverage.out | tail -1

.PHONY: ci
ci: ## what gates a change
	.ci/run
