"""Functions and variables, the objects that users work with."""
