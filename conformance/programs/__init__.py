"""CNTK's own Tutorials, Manual and Examples, run on rgraph and beside real CNTK 2.7."""
