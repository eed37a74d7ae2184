"""Recording demonstration sets: a team plays, and its joint trajectories are written; a killed recording can resume.

Start with `recorder.py` (`record`). `chunked.py` decides which chunks of battles are played, `player_pool.py` and
`chunk_player.py` play them, `resumable_parts.py` keeps them on disk until the set is complete.
"""
