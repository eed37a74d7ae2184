"""Where a run's demonstrations come from.

    sources.py          DemonstrationSource, what the driver draws from; StoredDemonstrations, recorded sets
    live.py             LiveDemonstrations: teams that play fresh battles
    self_imitation.py   SelfImitation: the team's own best battles so far
    server_pool.py      EpisodeServerPool: the processes that do a source's work, and their recovery
    factory.py          from `demonstrations.source` to a source

A draw goes from an object in a process, through the pool, to the source, which hands each learner its slice.
"""
