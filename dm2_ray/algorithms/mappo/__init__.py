"""MAPPO, a centralized reference for reports: shared parameters, and a critic that sees the global state.

It stands outside DM2: this room uses learning/ and actors/, and nothing of theirs knows of it.
"""
