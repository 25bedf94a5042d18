# The commands of this repository. Each calls something that can be called by hand.
.DEFAULT_GOAL := help
.PHONY: help up down verify test test-default test-packages test-secure test-python test-readme contract-full hand-over try-litellm bench drill-ledger screenshots lint docs ssh key audit lock

export PATH := $(CURDIR)/.venv/bin:$(PATH)
INVENTORY ?= inventory/lab
HOST ?= gateway

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20

up:  ## from nothing to a verified lab on this machine; again: changes nothing
	@scripts/up

down:  ## remove the lab; leaves the checkout, the cache and the secrets
	@scripts/down

verify:  ## observe the running system and write evidence/
	@ansible-playbook -i $(INVENTORY) verify.yml

test:  ## everything that CI runs; make test LONG=1: also what CI does not wait for
	@scripts/test $(if $(LONG),--long)

test-default test-packages test-secure: test-%:
	@LAB_NAME=$* molecule test --scenario-name=$*

test-python:
	@pytest

test-readme:
	@pytest tests/readme

contract-full:  ## 100,000 random trees, and LiteLLM's API on each release, driver, PostgreSQL and way: TREES=1000 RELEASES="1.2.3"
	@python -m tests.contract.random_trees compare 0 $(or $(TREES),100000)
	@python -m tests.gateway.matrix $(RELEASES)
	@scripts/release_table.py

hand-over:  ## run LiteLLM on our prisma and on the genuine one in turn, on one database
	@pytest tests/contract/hand_over.py

try-litellm:  ## does a release of LiteLLM work on the stand-in for Prisma: make try-litellm RELEASE=1.110.2
	@scripts/packages && scripts/venv requirements/gateway.txt requirements/test.txt
	@scripts/try-litellm $(RELEASE)

bench:  ## what the ledger and the Prisma client cost, into FINDINGS.md: make bench QUICK=1 PARTS="gateway drain memory queries client"
	@scripts/packages && scripts/venv requirements/gateway.txt requirements/test.txt
	@python -m tests.bench $(PARTS) $(if $(QUICK),--quick)

drill-ledger:  ## break a lab in every way under load, and count what the ledger lost
	@scripts/drill-ledger

screenshots:  ## take the pictures of docs/admin-ui.md anew
	@scripts/packages --with-browser && scripts/venv requirements/gateway.txt requirements/test.txt
	@pytest tests/gateway/test_admin_ui.py --screenshots docs/images

lint:  ## ansible-lint, yamllint, ruff, mypy, stale docs
	@scripts/lint

docs:  ## write the roles' README.md from their argument_specs, and the table of supported releases
	@scripts/role_readmes.py
	@scripts/release_table.py

ssh:  ## log in: make ssh HOST=gateway (database, model)
	@exec ssh -F .lab/$${LAB_NAME:-demo}/ssh_config $(HOST)

key:  ## print the gateway's master key: make -s key
	@ansible-vault view $(INVENTORY)/group_vars/all/vault.yml | sed -n 's/^litellm_gateway_master_key: //p'

audit:  ## look the locked packages up where vulnerabilities are published; says so if no such source answers (exit code 3)
	@scripts/venv requirements/gateway.txt requirements/test.txt && scripts/audit.py

lock:  ## lock the Python packages anew: make lock UPGRADE=--upgrade for newer ones
	@scripts/lock $(UPGRADE)
