"""What formulas are written with: variables, and the operators of Python on them."""
