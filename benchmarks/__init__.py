"""Benchmarks: what the budgets say, measured; `make bench`."""
