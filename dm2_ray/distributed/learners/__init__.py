"""One learner per agent, each in a process of its own, that share nothing."""
