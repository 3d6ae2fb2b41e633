"""The NumPy convolution that references share, against a direct sum."""

import numpy as np
import pytest

from schedules.operators import windows


@pytest.mark.parametrize("gathered_elements", [1, 100, 2**22])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (3, 2, 1)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_slabs_of_any_height_give_the_same_convolution(
    monkeypatch: pytest.MonkeyPatch,
    rank: int,
    stride: int,
    dilation: int,
    groups: int,
    gathered_elements: int,
) -> None:
    monkeypatch.setattr(windows, "_GATHERED_ELEMENTS", gathered_elements)
    rng = np.random.default_rng(0)
    padded = rng.standard_normal((2, *(9, 8, 7)[:rank], 4))
    weight = rng.standard_normal((*[3] * rank, 4 // groups, 6))
    extents = [(extent - 2 * dilation - 1) // stride + 1 for extent in (9, 8, 7)[:rank]]

    expected = np.zeros((2, *extents, 6))
    for position, view in windows.taps(padded, 3, extents, stride, dilation):
        for group in range(groups):
            inputs = slice(group * 4 // groups, (group + 1) * 4 // groups)
            outputs = slice(group * 6 // groups, (group + 1) * 6 // groups)
            expected[..., outputs] += view[..., inputs] @ weight[position][:, outputs]

    actual = windows.convolve(padded, weight, stride=stride, dilation=dilation, groups=groups)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
