"""Maps: SMAC's 23, and scenarios from YAML files."""
