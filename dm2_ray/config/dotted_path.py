"""Functions of the user that a configuration names as `package.module:function`.

    matching.form          logits -> matching reward           (dm2_ray.learning.rewards)
    discriminator.input    steps -> the discriminator's input  (dm2_ray.learning.visitation)

The module must be importable in every process of a run: installed, or in a directory on PYTHONPATH.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from dm2_ray.config.errors import ConfigError, closest_match
from dm2_ray.config.schema import Experiment


def function_paths(experiment: Experiment) -> dict[tuple[str, str], str]:
    """The function paths in an experiment, by section and key."""
    values = {
        ("matching", "form"): experiment.matching.form,
        ("discriminator", "input"): experiment.discriminator.input,
    }
    return {key: value for key, value in values.items() if ":" in value}


def check_functions(experiment: Experiment) -> None:
    """Imports every function that an experiment names.

    Raises:
        ConfigError: One of them cannot be imported; the message names the key.
    """
    for key, path in function_paths(experiment).items():
        try:
            import_function(path)
        except ConfigError as error:
            raise ConfigError(f"{'.'.join(key)}: {error}") from error.__cause__


@lru_cache(maxsize=32)
def import_function(path: str) -> Callable[..., Any]:
    """Imports the function named by `package.module:function`.

    Raises:
        ConfigError: There is no such module or function, or importing the module fails.
    """
    module_name, _, name = path.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"{path}: importing {module_name} failed: no module named {error.name}") from error
        raise ConfigError(
            f"{path}: there is no module {error.name}; install it, or put its directory on PYTHONPATH"
        ) from error
    except Exception as error:  # the user's module may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"{path}: importing {module_name} failed: {reason}") from error
    function = getattr(module, name, None)
    if not callable(function):
        callables = [other for other, value in vars(module).items() if callable(value)]
        found = "is not a function" if hasattr(module, name) else "does not exist"
        raise ConfigError(f"{path}: {name} {found} in module {module_name}{closest_match(name, callables)}")
    return function
