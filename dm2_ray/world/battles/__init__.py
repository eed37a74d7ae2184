"""B battles that one call steps together, and their units."""
