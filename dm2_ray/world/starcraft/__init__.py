"""Real StarCraft II with BattleVector's interface; read `starcraft_vector` first."""
