"""Playing battles with the agents' policies, in RLlib EnvRunners spread over the cluster."""
