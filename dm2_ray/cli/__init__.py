"""The command line, `dm2 COMMAND --help`: `commands.py` is the table of all commands and names where each is run."""

from dm2_ray.cli.main import main

__all__ = ["main"]
