# The two commands of racknest are `make up` and `make test`; `make help` lists the others.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# rustup's programs, where a fresh login has not put them on the path yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

PREFIX ?= $(HOME)/.local
RACKNEST := target/release/racknest
# More words for `racknest up`: make up ARGS="--alive 6"
ARGS ?=

.PHONY: help
help: ## say what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)$$/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: up
up: build guest ## install what is missing, build, start the data centre
	@./$(RACKNEST) up $(ARGS)

.PHONY: down
down: ## stop the data centre
	@if [ -x $(RACKNEST) ]; then ./$(RACKNEST) down; else echo "racknest is not built, so nothing of it runs"; fi

.PHONY: test
test: DEPS_FOR = --tests
test: deps guest ## check everything: formats, lints, tests, with real guests
	@cargo xtask check

.PHONY: bench
bench: DEPS_FOR = --bench
bench: build guest ## measure it, and write docs/BENCHMARKS.md
	@cargo xtask bench

.PHONY: build
build: deps ## build target/release/racknest
	@cargo build --release --locked --package racknest

.PHONY: install
install: build ## copy the program to PREFIX/bin (PREFIX is ~/.local)
	@install -D -m 0755 $(RACKNEST) "$(DESTDIR)$(PREFIX)/bin/racknest"
	@echo "installed $(DESTDIR)$(PREFIX)/bin/racknest"

# Cached: builds only when its sources changed.
.PHONY: guest
guest: deps
	@./guest/build.sh

.PHONY: deps
deps:
	@./scripts/install-deps.sh $(DEPS_FOR)
