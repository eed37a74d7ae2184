"""Battles with the interfaces of other libraries: SMAC's own class, PettingZoo, gymnasium."""
