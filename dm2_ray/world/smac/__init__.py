"""SMAC's rules: options, observations, states, available actions, rewards and ends."""
