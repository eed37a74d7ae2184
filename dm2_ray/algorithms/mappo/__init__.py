"""MAPPO, a centralized reference for comparisons: shared parameters, and a critic that sees the global state.

Read mappo.py first. The folder uses learning/ and distributed/, and DM2 does not depend on it.
"""
