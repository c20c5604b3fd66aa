"""How fast the engine is, beside its peers and the machine's own limits: `python -m benchmarks.kernels --help`."""
