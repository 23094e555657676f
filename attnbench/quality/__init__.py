"""How wrong an approximation is: errors, attention mass, needles, real queries and keys."""
