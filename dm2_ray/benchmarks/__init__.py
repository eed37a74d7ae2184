"""Measurements of this package: throughput, cost of the driver, memory, recovery from faults (`dm2 bench`)."""
