"""What a run lost, how often, and for how long."""

import pytest

from dm2_ray.distributed.fault_log import FaultKind, FaultLog, fault_summary


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_loss_is_counted_once_and_timed_until_it_is_back() -> None:
    clock = Clock()
    log = FaultLog(clock)
    log.iteration = 7
    log.record_loss(FaultKind.LEARNER, "agent_1", "ActorDiedError")
    clock.now += 1.5
    log.record_loss(FaultKind.LEARNER, "agent_1", "asked again, still dead")
    assert log.take_events() == []  # told when it is known how it ended
    clock.now += 1.0
    log.record_recovery(FaultKind.LEARNER, "agent_1")
    log.record_recovery(FaultKind.LEARNER, "agent_0")  # was never missing
    told = {"kind": "learner", "who": "agent_1", "iteration": 7, "why": "ActorDiedError", "seconds": 2.5}
    assert log.take_events() == [told]
    assert log.take_events() == [] == log.open_faults()
    assert log.counts() == {"rollout_worker": 0, "evaluation_worker": 0, "learner": 1, "expert": 0, "node": 0}


def test_another_process_under_the_same_name_means_that_the_last_one_died() -> None:
    log = FaultLog(Clock())
    for process in ("p1", "p1", "p2", "p2"):
        log.record_recovery(FaultKind.EXPERT, 0, process)
    log.record_recovery(FaultKind.ROLLOUT_WORKER, 0, "p3")  # somebody else
    (told,) = log.take_events()
    assert told["kind"] == "expert" and told["seconds"] == 0 and "before it was missed" in told["why"]
    # A loss that was noticed is not counted again when its replacement answers.
    log.record_loss(FaultKind.EXPERT, 0, "ActorDiedError")
    log.record_recovery(FaultKind.EXPERT, 0, "p4")
    log.record_recovery(FaultKind.EXPERT, 0, "p4")
    assert log.counts()["expert"] == 2


def test_what_is_not_waited_for_is_told_without_a_time() -> None:
    log = FaultLog(Clock())
    log.record_loss(FaultKind.ROLLOUT_WORKER, 3, "its node left")
    log.record_removal(FaultKind.ROLLOUT_WORKER, 3)
    log.record_loss(FaultKind.NODE, "10.0.0.3", "died")
    assert [event["seconds"] for event in log.take_events()] == [None]
    assert [event["who"] for event in log.open_faults()] == ["10.0.0.3"]


def test_the_summary_has_median_and_longest_of_each_kind() -> None:
    events = [{"kind": "expert", "seconds": seconds} for seconds in (1.0, 5.0, 2.0, None)]
    summary = fault_summary([*events, {"kind": "node", "seconds": None}])
    assert summary == {
        "expert": {"count": 4, "recovery_s_median": pytest.approx(2.0), "recovery_s_max": 5.0},
        "node": {"count": 1, "recovery_s_median": None, "recovery_s_max": None},
    }
