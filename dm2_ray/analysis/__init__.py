"""What a trained team does, looked at from outside: replays, what its agents visit, how hard a map is."""
