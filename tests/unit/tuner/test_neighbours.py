from dataclasses import replace

from schedules.identity import sha256_id
from schedules.workload import OperatorCall, TensorSpec, Workload
from tuner.learning.neighbours import NEIGHBOURS, nearest


def product(n: int, m: int, k: int, *, call: OperatorCall | None = None) -> Workload:
    shapes = {"A": (n, k), "B": (k, m), "C": (n, m)}
    return Workload(
        workload_id=sha256_id([n, m, k]),
        name=f"{n} x {m} x {k}",
        ir="{}",
        tensors=tuple(
            TensorSpec(name=name, shape=shape, dtype="float32", is_output=name == "C")
            for name, shape in shapes.items()
        ),
        flops=2.0 * n * m * k,
        call=call,
        family_id="products",
    )


def names(found: list[tuple[Workload, str]]) -> list[str]:
    return [workload.name for workload, _ in found]


def test_programs_are_near_whose_extents_are():
    others = [product(64, 64, 64), product(128, 64, 64), product(128, 128, 256)]
    found = nearest(product(100, 64, 64), [(other, other.name) for other in others])
    assert names(found) == ["128 x 64 x 64", "64 x 64 x 64", "128 x 128 x 256"]


def test_an_extent_counts_once_however_many_axes_have_it():
    """Three tensors have two axes each, and 64 x 64 x 64 is 4 times, not 16 times, as small."""
    far = product(16, 16, 2**12)
    found = nearest(product(64, 64, 2**12), [(far, "far"), (product(64, 64, 64), "short")])
    assert names(found) == ["16 x 16 x 4096", "64 x 64 x 64"]


def test_what_is_too_far_away_is_no_neighbour():
    assert nearest(product(1, 64, 64), [(product(2**7, 64, 64), "near")]) != []
    assert nearest(product(1, 64, 64), [(product(2**7, 128, 128), "far")]) == []


def test_a_workload_is_no_neighbour_of_its_own():
    own = product(8, 8, 8)
    assert nearest(own, [(replace(own, name="again"), "best")]) == []


def test_what_comes_twice_is_one_neighbour():
    other = product(8, 8, 16)
    assert names(nearest(product(8, 8, 8), [(other, "best"), (other, "best")])) == ["8 x 8 x 16"]


def test_only_so_many_are_told():
    others = [product(8, 8, 8 + step) for step in range(1, 9)]
    found = nearest(product(8, 8, 8), [(other, other.name) for other in others])
    assert names(found) == [f"8 x 8 x {8 + step}" for step in range(1, NEIGHBOURS + 1)]


def test_calls_of_one_operator_are_compared_by_their_arguments():
    def strided(stride: int) -> OperatorCall:
        return OperatorCall(op="conv", args={"stride": stride, "k": 8}, dtype="float32")

    mine = product(8, 8, 8, call=strided(1))
    near, far = product(64, 64, 64, call=strided(1)), product(8, 8, 9, call=strided(4))
    assert names(nearest(mine, [(far, "best"), (near, "best")])) == [near.name, far.name]


def test_the_same_shape_with_constants_is_as_far_as_twice_an_extent():
    def call(k: int, *constants: str) -> OperatorCall:
        return OperatorCall(op="dense", args={"k": k}, dtype="float32", constants=constants)

    mine = product(8, 8, 8, call=call(8, "W"))
    others = [
        product(8, 8, 16, call=call(32, "W")),
        product(8, 8, 9, call=call(9, "W")),
        product(8, 8, 10, call=call(8)),
    ]
    found = names(nearest(mine, [(other, "best") for other in others]))
    assert found == [others[1].name, others[2].name, others[0].name]
