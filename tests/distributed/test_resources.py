"""Whether a run fits a cluster."""

from hypothesis import given
from hypothesis import strategies as st

from dm2_ray.distributed.resources import shortage

SIZES = st.sampled_from([0.1, 0.2, 0.5, 1.0, 2.0])


def test_the_sum_is_refused_with_its_name() -> None:
    assert shortage([{"CPU": 1.0}] * 5, [{"CPU": 2.0}, {"CPU": 2.0}]) == ("5 CPU", "the cluster has 4")
    assert shortage([{"CPU": 0.5, "GPU": 0.5}], [{"CPU": 8.0}]) == ("0.5 GPU", "the cluster has 0")


def test_what_fits_in_sum_but_on_no_node_is_refused() -> None:
    needed, there = shortage([{"CPU": 3.0}], [{"CPU": 2.0}, {"CPU": 2.0}]) or ("", "")
    assert needed == "3 CPU on one node for each process" and "2 nodes" in there


def test_fractions_share_a_gpu() -> None:
    assert shortage([{"CPU": 0.2, "GPU": 0.2}] * 5, [{"CPU": 4.0, "GPU": 1.0}]) is None
    assert shortage([{"CPU": 0.2, "GPU": 0.2}] * 6, [{"CPU": 4.0, "GPU": 1.0}]) is not None


@given(st.lists(SIZES, max_size=12))
def test_on_one_node_only_the_sum_counts(sizes: list[float]) -> None:
    bundles = [{"CPU": size} for size in sizes]
    assert shortage(bundles, [{"CPU": sum(sizes)}]) is None
    if sizes:
        assert shortage(bundles, [{"CPU": sum(sizes) - 0.05}]) is not None


@given(st.lists(SIZES, min_size=1, max_size=12), st.integers(1, 4))
def test_nodes_of_their_own_are_enough(sizes: list[float], more: int) -> None:
    assert shortage([{"CPU": size} for size in sizes], [{"CPU": size} for size in sizes] * more) is None
