"""Scenarios: everything that decides a run, and the named suites of them."""
