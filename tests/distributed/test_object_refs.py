"""References to objects, and the errors of the processes that computed them."""

import pytest
import ray

from dm2_ray.demonstrations.manifest import DemonstrationError
from dm2_ray.distributed.object_refs import get_if_ref

pytestmark = pytest.mark.usefixtures("local_ray")


def test_values_pass_and_references_are_fetched() -> None:
    assert get_if_ref(3) == 3 and get_if_ref(None) is None
    assert get_if_ref(ray.put([1, 2])) == [1, 2]


def test_an_error_meant_for_the_user_arrives_without_rays_wrapper() -> None:
    @ray.remote(num_cpus=0.1)
    def refuse(error: Exception) -> None:
        raise error

    with pytest.raises(DemonstrationError, match="^no such set$") as caught:
        get_if_ref(refuse.remote(DemonstrationError("no such set")))
    assert not isinstance(caught.value, ray.exceptions.RayTaskError)
    with pytest.raises(ray.exceptions.RayTaskError):
        get_if_ref(refuse.remote(KeyError("a bug")))


def test_a_wait_ends() -> None:
    @ray.remote(num_cpus=0.1)
    def slow() -> None:
        import time

        time.sleep(30)

    task = slow.remote()
    with pytest.raises(ray.exceptions.GetTimeoutError):
        get_if_ref(task, timeout_s=0.1)
    ray.cancel(task, force=True)
