"""Models in files of other programs."""
