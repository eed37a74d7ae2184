"""Measurements of this package (`dm2 bench`): throughput, cost of the driver, memory, recovery from faults.

README.md has the numbers and their commands.
"""
