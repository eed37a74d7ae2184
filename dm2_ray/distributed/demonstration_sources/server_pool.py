"""Processes that hold equal objects and take turns.

What they do depends on the arguments of a call alone: whichever process answers, however often it was restarted, the
answer is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.distributed.demonstration_sources.expert_process import ExpertProcess
from dm2_ray.distributed.errors import ExpertsLost
from dm2_ray.distributed.fault_log import FaultKind, FaultLog
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.distributed.placement import CAPACITY_WAIT_S
from dm2_ray.terminal import first_line

_PAUSE_S = 0.1

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A call of a method that has no side effect."""

    turn: int
    """Whose turn it is: calls with equal turns go to the same process."""
    method: str
    arguments: Sequence[Any]
    """Values or references."""


def anywhere(index: int) -> dict[str, Any]:
    """Options of a process that may go where Ray finds room."""
    return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorOptions:
    """Where processes go, how long a lost one is waited for, and who is told of losses."""

    options: Callable[[int], dict[str, Any]] = anywhere
    """The index-th process's options for Ray."""
    timeout_s: float = 600.0
    faults: FaultLog = field(default_factory=FaultLog)
    free_capacity: Callable[[], None] = lambda: None
    """Is called now and then while an answer is waited for: the process may have lost its place."""


class EpisodeServerPool:
    """`demonstrations.expert_actors` processes; with 0, the object lives in this one and its answers are values."""

    def __init__(
        self,
        kind: type,
        arguments: Mapping[str, Any],
        settings: DemonstrationSettings,
        *,
        where: ActorOptions,
        is_reconstructable: bool = False,
    ) -> None:
        """
        Args:
            kind: Class of the objects.
            arguments: Of its constructor.
            settings: How many processes, of how many CPUs.
            where: They go, how long a lost one is waited for, and who is told of losses.
            is_reconstructable: Ray repeats calls by itself, also when an answer is lost later with the node that holds
                it. It keeps the history of every answer for that: not for answers that are made of earlier ones.
        """
        self._kind = kind
        self._settings = settings
        self._where = where
        self._max_task_retries = -1 if is_reconstructable else 0
        self._local = kind(**arguments) if settings.expert_actors == 0 else None
        # Ray needs the constructor's arguments for as long as it may restart a process.
        self._arguments = {} if self._local is not None else {name: ray.put(value) for name, value in arguments.items()}
        self._actors = [self._start(index) for index in range(settings.expert_actors)]

    def call(self, call: Call, num_returns: int) -> list[Any]:
        """The answer's parts, and who gives it: references, or values where there are no processes."""
        if self._local is not None:
            return [*getattr(self._local, call.method)(*map(get_if_ref, call.arguments)), None]
        actor = self._actors[call.turn % len(self._actors)]
        return list(actor.answer.options(num_returns=num_returns + 1).remote(call.method, *call.arguments))

    def answers(
        self, calls: Mapping[Key, Call], num_returns: int, *, begun: Mapping[Key, list[Any]] | None = None
    ) -> dict[Key, list[Any]]:
        """Answers to all calls once they are there, the last part of each as a value; what is lost with a process is
        called again.

        Args:
            calls: To be done.
            num_returns: Parts of an answer.
            begun: What `call` returned, of calls that were begun already.

        Raises:
            ExpertsLost: A process did not come back in time.
            DemonstrationError, StarCraftError, ray.exceptions.RayError: As `get_if_ref`.
        """
        answers: dict[Key, list[Any]] = {}
        asked = dict(begun or {})
        timeout_s = self._where.timeout_s
        deadline = time.monotonic() + timeout_s
        while len(answers) < len(calls):
            asked |= {key: self.call(call, num_returns) for key, call in calls.items() if key not in asked}
            lost = []
            for key, answer in asked.items():
                if key in answers:
                    continue
                process = calls[key].turn % max(1, len(self._actors))
                try:
                    *parts, last, answered_by = answer
                    answers[key] = [*parts, self._awaited(last, deadline)]
                    self._where.faults.record_recovery(FaultKind.EXPERT, process, get_if_ref(answered_by))
                except ray.exceptions.RayActorError as error:
                    lost.append(key)
                    self._where.faults.record_loss(FaultKind.EXPERT, process, type(error).__name__)
                    self._replace_if_dead(error, calls[key].turn)
                    if time.monotonic() > deadline:
                        raise ExpertsLost(
                            f"an expert process did not come back within {timeout_s:.0f} s: {first_line(error)}"
                        ) from None
                except ray.exceptions.GetTimeoutError:
                    raise ExpertsLost(
                        f"an expert process did not answer within {timeout_s:.0f} s; see `ray status` for the "
                        "cluster's nodes and resources"
                    ) from None
            if lost:
                time.sleep(_PAUSE_S)
            for key in lost:
                del asked[key]
        return answers

    @property
    def actors(self) -> list[Any]:
        """Handles of the processes."""
        return list(self._actors)

    def __len__(self) -> int:
        return len(self._actors)

    def shutdown(self) -> None:
        """Ends the processes."""
        if ray.is_initialized():
            for actor in self._actors:
                ray.kill(actor)
        self._actors = []

    def _start(self, index: int) -> Any:
        actor = ray.remote(ExpertProcess).options(
            num_cpus=self._settings.cpus_per_expert_actor,
            max_restarts=-1,
            max_task_retries=self._max_task_retries,
            **self._where.options(index),
        )
        return actor.remote(self._kind, **self._arguments)

    def _awaited(self, item: Any, deadline: float) -> Any:
        """As `get_if_ref`, by a time of the monotonic clock."""
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            try:
                return get_if_ref(item, min(left_s, CAPACITY_WAIT_S))
            except ray.exceptions.GetTimeoutError:
                if left_s <= CAPACITY_WAIT_S:
                    raise
                self._where.free_capacity()

    def _replace_if_dead(self, error: ray.exceptions.RayActorError, turn: int) -> None:
        """Where Ray itself will not bring a process back, somebody ended it for good."""
        index = turn % len(self._actors)
        is_present_one = error.actor_id == self._actors[index]._actor_id.hex()
        if isinstance(error, ray.exceptions.ActorDiedError) and is_present_one:
            self._actors[index] = self._start(index)
