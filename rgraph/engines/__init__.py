"""Engines: kernels and memory of one processor each; see `base`."""
