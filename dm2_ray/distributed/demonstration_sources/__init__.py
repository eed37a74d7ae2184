"""Where a run's demonstrations come from: stored sets, live teams, or the agents' own best battles."""
