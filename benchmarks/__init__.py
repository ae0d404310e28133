"""How fast rgraph is, beside PyTorch in the same process: `python -m benchmarks`."""
