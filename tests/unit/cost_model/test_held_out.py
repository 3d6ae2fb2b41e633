import numpy as np
import pytest

from cost_model.columns import FEATURE_NAMES
from cost_model.dataset import Dataset
from cost_model.held_out import TaskKey, TrainingSet
from schedules.errors import ContractError


def training_set(*tasks: tuple[str, str, str]) -> TrainingSet:
    """Two rows for each (operator, workload, target)."""
    keys = tuple(
        TaskKey(operator=operator, workload_id=workload, target_id=target)
        for operator, workload, target in tasks
    )
    groups = np.repeat([key.group for key in keys], 2)
    dataset = Dataset(
        features=np.zeros((len(groups), len(FEATURE_NAMES)), dtype=np.float32),
        latency_secs=np.ones(len(groups)),
        groups=groups,
        flops=np.zeros(len(groups)),
    )
    return TrainingSet(dataset=dataset, tasks=keys)


SHAPES = [("matmul", f"matmul-{number}", "cpu") for number in range(40)]


def held_out_groups(cut: TrainingSet, gate: str) -> set[int]:
    return set(cut.dataset.groups[cut.held_out()[gate]].tolist())


def test_some_shapes_are_held_out_with_all_their_rows() -> None:
    cut = training_set(*SHAPES)
    mask = cut.held_out()["shape"]

    assert 0 < mask.sum() < len(mask) / 2
    np.testing.assert_array_equal(mask[0::2], mask[1::2])


def test_who_is_held_out_does_not_depend_on_what_else_there_is() -> None:
    few, many = training_set(*SHAPES[:20]), training_set(*SHAPES)
    known = {task.group for task in few.tasks}

    assert held_out_groups(few, "shape") == held_out_groups(many, "shape") & known


def test_the_only_shape_of_an_operator_is_learnt_from() -> None:
    cut = training_set(("softmax", "softmax-1", "cpu"), *SHAPES[:2])
    lonely = cut.tasks[0].group

    assert lonely not in held_out_groups(cut, "shape")


def test_an_operator_is_held_out_as_a_whole_and_never_all_of_them() -> None:
    cut = training_set(
        *SHAPES[:4], *((f"op-{number}", f"w-{number}", "cpu") for number in range(3))
    )
    out = held_out_groups(cut, "operator")
    operators = {task.operator for task in cut.tasks if task.group in out}

    assert 0 < len(operators) < 4
    assert out == {task.group for task in cut.tasks if task.operator in operators}


def test_a_target_is_held_out_where_there_are_several() -> None:
    one = training_set(*SHAPES[:8])
    two = training_set(*SHAPES[:8], *((op, shape, "gpu") for op, shape, _ in SHAPES[:8]))

    assert "target" not in one.held_out()
    assert two.held_out()["target"].sum() == 16


def test_one_task_cannot_be_held_out() -> None:
    assert training_set(SHAPES[0]).held_out() == {}


def test_every_group_needs_a_task() -> None:
    cut = training_set(*SHAPES[:2])

    with pytest.raises(ContractError, match="no task"):
        TrainingSet(dataset=cut.dataset, tasks=cut.tasks[:1])
