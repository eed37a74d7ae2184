"""One learner per agent, each in its own process; they share nothing."""
