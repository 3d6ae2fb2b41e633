"""Targets as plain data."""

import pytest

from schedules.errors import InvalidTargetError
from schedules.target import Target, is_tag

NATIVE = {"kind": "llvm", "mcpu": "znver3", "num-cores": 2}


def test_order_of_attributes_and_derived_fields_do_not_change_the_identity():
    reordered = {"num-cores": 2, "keys": ["cpu"], "tag": "", "mcpu": "znver3", "kind": "llvm"}
    assert Target.parse(NATIVE).target_id == Target.parse(reordered).target_id


@pytest.mark.parametrize("change", [{"mcpu": "znver4"}, {"num-cores": 4}, {"mattr": ["+avx2"]}])
def test_what_changes_the_code_changes_the_identity(change):
    assert Target.parse(NATIVE).target_id != Target.parse({**NATIVE, **change}).target_id


def test_a_gpu_has_one_identity_however_much_of_it_is_written_down():
    short = Target.parse({"kind": "cuda", "arch": "sm_90a"})
    full = {
        "kind": "cuda",
        "keys": ["cuda", "gpu"],
        "arch": "sm_90a",
        "max_num_threads": 1024,
        "max_threads_per_block": 1024,
        "max_shared_memory_per_block": 49152,
        "registers_per_block": 65536,
        "thread_warp_size": 32,
    }
    assert Target.parse(full) == short
    assert short.compute_capability == (9, 0)
    assert short.target_id != Target.parse({"kind": "cuda", "arch": "sm_80"}).target_id
    assert Target.parse({**full, "l2_cache_size_bytes": 52428800}).target_id != short.target_id


@pytest.mark.parametrize("description", [{}, {"arch": "90"}, {"arch": "sm_9"}, {"arch": 90}])
def test_a_gpu_without_an_architecture_is_refused(description):
    with pytest.raises(InvalidTargetError, match="arch"):
        Target.parse({"kind": "cuda", **description})


@pytest.mark.parametrize(
    ("text", "tag"), [("nvidia/nvidia-h100", True), ("native", False), ("a" * 64, False)]
)
def test_a_tag_is_told_from_other_names(text, tag):
    assert is_tag(text) is tag


@pytest.mark.parametrize(
    ("other", "stands"),
    [
        ({}, True),
        ({"mattr": ["-amx-int8", "-amx-tile"]}, True),
        ({"mattr": ["+amx-int8"]}, False),
        ({"mattr": ["-amx-int8"], "num-cores": 4}, False),
        ({"mcpu": "znver4"}, False),
    ],
)
def test_a_cpu_stands_for_machines_that_lack_some_of_its_features(other, stands):
    assert Target.parse(NATIVE).stands_for(Target.parse({**NATIVE, **other})) is stands


def test_a_target_that_names_features_stands_for_itself_only():
    lacking = Target.parse({**NATIVE, "mattr": ["-amx-int8"]})
    assert lacking.stands_for(lacking)
    assert not lacking.stands_for(Target.parse(NATIVE))
    assert str(lacking) == "llvm mattr=-amx-int8 mcpu=znver3 num-cores=2"


def test_a_target_survives_its_dict():
    target = Target.parse({**NATIVE, "mattr": ["+fma", "+avx2"]})
    assert Target.parse(target.as_dict()) == target


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"kind": "hexagon"},
        {"kind": ["llvm"]},
        {"kind": "llvm", "num-cores": 2},
        {"kind": "llvm", "mcpu": "znver3"},
        {**NATIVE, "mcpu": ""},
        {**NATIVE, "mcpu": 3},
        {**NATIVE, "num-cores": 0},
        {**NATIVE, "num-cores": True},
        {**NATIVE, "num-cores": "2"},
        {**NATIVE, "mattr": "+avx2"},
        {**NATIVE, "opt-level": 3},
    ],
)
def test_malformed_targets_are_refused(description):
    with pytest.raises(InvalidTargetError):
        Target.parse(description)
