"""B battles side by side, stepped by one call, and the units in them."""
