"""Measurements of this package (`dm2 bench`): throughput, cost of the driver, memory, recovery from faults.

README.md lists the results and the commands that print them.
"""
