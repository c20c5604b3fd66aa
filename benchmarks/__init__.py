"""Measurements that take longer than a test may; their results stand in `benchmarks/results`."""
