"""What runs where: rollout workers, learner processes, demonstration servers, and how faults are met."""
