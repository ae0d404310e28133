"""Engines: sets of kernels, an allocator, and nothing else."""
