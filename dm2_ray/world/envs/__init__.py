"""The battles behind other libraries' interfaces: SMAC's own class, PettingZoo, gymnasium."""
