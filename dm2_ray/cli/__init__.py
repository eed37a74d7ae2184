"""The command line: `dm2 COMMAND --help`. `main.py` holds the commands, one module each what they do."""

from dm2_ray.cli.main import main

__all__ = ["main"]
