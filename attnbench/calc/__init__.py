"""Pure functions, standard library only: every cost formula and every pattern's arithmetic."""
