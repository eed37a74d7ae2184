"""The rooms that know Ray and RLlib: rollout workers, learner processes, expert actors and the algorithm."""
