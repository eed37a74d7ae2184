"""A pool of processes that each host an equal object, a server of episodes.

A server's answer depends on the request's arguments alone: whichever process answers, and however often it was
restarted, the answer is the same. So a request that is lost with its process is simply sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray

from dm2_ray.config.schema import DemonstrationSettings
from dm2_ray.distributed.errors import ExpertsLost
from dm2_ray.distributed.fault_log import FaultKind, FaultLog, process_name
from dm2_ray.distributed.object_refs import get_if_ref
from dm2_ray.distributed.placement import CAPACITY_WAIT_S
from dm2_ray.terminal import first_line

_RETRY_PAUSE_S = 0.1

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A call of a server's method, which has no side effect and returns a tuple."""

    turn: int
    """Requests with equal turns go to the same process."""
    method: str
    arguments: Sequence[Any]
    """Values or references."""
    parts: int
    """Length of the tuple."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorOptions:
    """Where the processes of a pool are placed, how long a lost one is waited for, and where losses are logged."""

    ray_options: Callable[[int], dict[str, Any]] | None = None
    """Ray's actor options of the index-th process; None lets Ray place it on any node."""
    timeout_s: float = 600.0
    faults: FaultLog = field(default_factory=FaultLog)
    free_capacity: Callable[[], None] = lambda: None
    """Called now and then while an answer is waited for: the process may have lost its place in the cluster."""


class ExpertProcess:
    """The Ray actor that hosts a server. The name of this class is the process's title in `ps` and in Ray's dashboard.

    Neither torch nor RLlib is loaded for it, unless the server needs them.
    """

    def __init__(self, server: type, **arguments: Any) -> None:
        """Makes the server from its class and the arguments of its constructor."""
        self._server = server(**arguments)

    def answer(self, method: str, *arguments: Any) -> tuple[Any, ...]:
        """The tuple that the server's method returns, and the name of this process as one more element."""
        return (*getattr(self._server, method)(*arguments), process_name())


class EpisodeServerPool:
    """`demonstrations.expert_actors` processes; with 0, the server lives in the driver and answers are values."""

    def __init__(
        self,
        server: type,
        arguments: Mapping[str, Any],
        settings: DemonstrationSettings,
        *,
        options: ActorOptions,
        is_reconstructable: bool = False,
    ) -> None:
        """
        Args:
            server: Class of the object that every process hosts.
            arguments: Of its constructor.
            settings: How many processes, and CPUs of each.
            options: Where the processes go, how long a lost one is waited for, and where losses are logged.
            is_reconstructable: Ray repeats requests itself, also when an answer is lost later with the node that holds
                it. It keeps the history of every answer for that, so this is not for answers made of earlier answers.
        """
        self.options = options
        self._server = server
        self._settings = settings
        self._max_task_retries = -1 if is_reconstructable else 0
        self._local = server(**arguments) if settings.expert_actors == 0 else None
        # Ray needs the constructor's arguments for as long as it may restart a process.
        self._arguments = {} if self._local is not None else {name: ray.put(value) for name, value in arguments.items()}
        self.actors = [self._start(index) for index in range(settings.expert_actors)]
        """Handles of the processes."""
        self._prefetched: dict[Hashable, list[Any]] = {}

    def __len__(self) -> int:
        return len(self.actors)

    def submit(self, request: Request) -> list[Any]:
        """Sends a request; returns references to the parts of its answer, and to the name of the process that answers.
        In the driver it is answered at once: the list holds the values, and None as the name."""
        if self._local is not None:
            return [*getattr(self._local, request.method)(*map(get_if_ref, request.arguments)), None]
        method = self.actors[request.turn % len(self.actors)].answer
        return list(method.options(num_returns=request.parts + 1).remote(request.method, *request.arguments))

    def prefetch(self, requests: Mapping[Key, Request]) -> None:
        """Sends requests that `answers` will be asked for, unless they are under way; drops those of other keys."""
        before = self._prefetched
        self._prefetched = {key: before[key] if key in before else self.submit(requests[key]) for key in requests}

    def answers(self, requests: Mapping[Key, Request]) -> dict[Key, list[Any]]:
        """Waits for the answers to all requests. A request that is lost with its process is sent again.

        Returns:
            The parts of every answer: references (values in the driver), but the last part always as a value. A second
            call with the same key sends the request again: the caller has lost the first answer.

        Raises:
            ExpertsLost: A process did not come back in time.
            DemonstrationError, StarCraftError, ray.exceptions.RayError: As `get_if_ref`.
        """
        answers: dict[Key, list[Any]] = {}
        submitted = {key: self._prefetched.pop(key) for key in requests if key in self._prefetched}
        timeout_s = self.options.timeout_s
        deadline = time.monotonic() + timeout_s
        while len(answers) < len(requests):
            submitted |= {key: self.submit(request) for key, request in requests.items() if key not in submitted}
            lost = []
            for key in [key for key in submitted if key not in answers]:
                process = requests[key].turn % max(1, len(self.actors))
                *parts, last, answered_by = submitted[key]
                try:
                    last, answered_by = self._wait(last, deadline), get_if_ref(answered_by)
                    answers[key] = [*parts, last]
                    self.options.faults.record_recovery(FaultKind.EXPERT, process, answered_by)
                except ray.exceptions.RayActorError as error:
                    lost.append(key)
                    self.options.faults.record_loss(FaultKind.EXPERT, process, type(error).__name__)
                    self._replace_if_dead(error, process)
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
                time.sleep(_RETRY_PAUSE_S)
            for key in lost:
                del submitted[key]
        return answers

    def shutdown(self) -> None:
        """Ends the processes."""
        if ray.is_initialized():
            for actor in self.actors:
                ray.kill(actor)
        self.actors = []

    def _start(self, index: int) -> Any:
        place = self.options.ray_options
        actor = ray.remote(ExpertProcess).options(
            num_cpus=self._settings.cpus_per_expert_actor,
            max_restarts=-1,
            max_task_retries=self._max_task_retries,
            **({} if place is None else place(index)),
        )
        return actor.remote(self._server, **self._arguments)

    def _wait(self, item: Any, deadline: float) -> Any:
        """As `get_if_ref`, until a time of the monotonic clock; frees capacity now and then."""
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            try:
                return get_if_ref(item, min(left_s, CAPACITY_WAIT_S))
            except ray.exceptions.GetTimeoutError:
                if left_s <= CAPACITY_WAIT_S:
                    raise
                self.options.free_capacity()

    def _replace_if_dead(self, error: ray.exceptions.RayActorError, index: int) -> None:
        """Starts a new process where Ray does not restart the old one, because it was killed for good."""
        is_present_one = error.actor_id == self.actors[index]._actor_id.hex()
        if isinstance(error, ray.exceptions.ActorDiedError) and is_present_one:
            self.actors[index] = self._start(index)
