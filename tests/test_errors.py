"""Every exception of the package that reaches a user decides the exit code of `dm2`, and survives Ray's pickling."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil

import ray.exceptions

import dm2_ray
from dm2_ray.demonstrations.source_checks import DemonstrationSettingsError
from dm2_ray.errors import Interrupted, RunFailed, RunStopped, UserError

BASES = (UserError, RunFailed, RunStopped, Interrupted)
INTERNAL = {
    # Raised by one module and handled by another of the package; no user ever sees one of them.
    "CallTimeout", "ForbiddenPickle", "ForcedStop", "GameLost", "InvalidScenario", "LearnerNotReady", "RolloutDataLost",
    "UpdateResultLost", "YamlError",
}  # fmt: skip
EXIT_CODES = {
    "RunEnded": 3, "RunSuperseded": 3, "RecordingInterrupted": 130,
    "FaultInjectionFailed": 1, "ExpertsLost": 1, "LearnerLost": 1, "LearningDiverged": 1, "NoSuchBattle": 1,
    "LevelNotReached": 1, "NotSaved": 1,
    "RolloutWorkersLost": 1, "StarCraftError": 1, "UpdateDiverged": 1,
}  # fmt: skip
"""Of all that do not mean bad input (2)."""


def _exception_classes() -> list[type[BaseException]]:
    found = set()
    for module_info in pkgutil.walk_packages(dm2_ray.__path__, "dm2_ray."):
        if module_info.name.endswith(".__main__"):
            continue
        module = importlib.import_module(module_info.name)
        for _, value in inspect.getmembers(module, inspect.isclass):
            if issubclass(value, BaseException) and value.__module__.startswith("dm2_ray.") and value not in BASES:
                found.add(value)
    return sorted(found, key=lambda found_class: found_class.__name__)


def test_every_exception_for_a_user_has_an_exit_code() -> None:
    classes = {found.__name__: found for found in _exception_classes()}
    assert classes.keys() >= INTERNAL | EXIT_CODES.keys()
    for name, found in classes.items():
        if name in INTERNAL:
            assert not issubclass(found, BASES), f"{name} is listed as internal but has an exit code"
        else:
            assert issubclass(found, BASES), f"{name} needs a base class of dm2_ray.errors (or a place in INTERNAL)"
            assert found.exit_code == EXIT_CODES.get(name, 2), name


def test_exceptions_with_an_exit_code_survive_ray() -> None:
    for found in _exception_classes():
        # A cluster's refusal carries its HTTP status and stays in the client, outside of Ray.
        if not issubclass(found, (UserError, RunFailed, RunStopped)) or found.__name__ == "HttpError":
            continue
        is_of_settings = issubclass(found, DemonstrationSettingsError)
        error = found(("matching",), "what was found") if is_of_settings else found("what was found")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is found and str(copy) == "what was found"
        wrapped = ray.exceptions.RayTaskError("play", "a traceback", error).as_instanceof_cause()
        assert isinstance(wrapped, found) and wrapped.exit_code == found.exit_code
