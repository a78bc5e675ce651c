# A thin face of tasks.py: `make VERB` is `python3 tasks.py VERB`. Words for the verb go in ARGS: make test ARGS="-k queue"
# SECTION says which promises `make prove` tries: make prove SECTION=8,19
PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell command -v $(name) 2>/dev/null)))
TASKS = $(or $(PYTHON),$(error Loupe needs Python 3.11 or newer, and finds no python3: install it (Debian: apt-get install python3 python3-venv; macOS: brew install python))) tasks.py
VERBS = run test test-unit test-ui test-contract test-e2e check fmt lint type bench prove clients image screenshots lock help

.DEFAULT_GOAL := help
.PHONY: $(VERBS)
$(VERBS):
	@$(TASKS) $@ $(if $(filter prove,$@),$(SECTION)) $(ARGS)
