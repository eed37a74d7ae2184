"""Making demonstration sets: a team plays, its joint trajectories are written, and a killed recording goes on."""
