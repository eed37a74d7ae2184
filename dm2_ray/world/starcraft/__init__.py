"""Real StarCraft II with BattleVector's interface: start with `starcraft_vector`."""
