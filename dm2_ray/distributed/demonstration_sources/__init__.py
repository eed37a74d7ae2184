"""Where a run's demonstrations come from.

    sources.py          DemonstrationSource, what the driver draws from; StoredDemonstrations, recorded sets
    live.py             LiveDemonstrations: teams that play fresh battles
    self_imitation.py   SelfImitation: the team's own best battles so far
    server_pool.py      EpisodeServerPool: the processes that do a source's work, and their recovery
    factory.py          from `demonstrations.source` to a source
    checks.py           the sets and teams of a run, checked before anything starts

A server in one of the pool's processes makes a draw; the source takes it apart into one slice per agent.
"""
