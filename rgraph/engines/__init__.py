"""Engines: kernels and memory of one processor each; `base` says what an engine is."""
