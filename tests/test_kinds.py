"""What counts as an argument of the annotated kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from memlib.kinds import is_kind


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (Any, [None, "text", object()], []),
        (int, [1, np.int64(1)], [True, 1.0, "1", np.array(1)]),
        (float, [1.5, 1, np.float32(1), np.array(1.5), torch.tensor(1)], [True, "1", np.ones(1), torch.tensor(True)]),
        (bool, [True, np.True_], [0, 1, "yes"]),
        (int | None, [1, None], [1.5, "none"]),
        (Sequence[float], [[1, 2.5], (), range(3), torch.ones(2)], ["12", 1.0, {1.0}, [1, "2"]]),
        (Sequence[int], [[1], np.array([1]), torch.tensor([1]), ()], [[1.0], np.ones(1), torch.ones(1), np.array(1)]),
        (Sequence[int], [range(3), []], [np.array([True]), torch.ones(2, 2).long(), [[1, 1], [1, 1]]]),
        (Mapping[str, int], [{}, {"a": 1}], [[("a", 1)], {"a": "1"}, {1: 1}]),
    ],
)
def test_a_value_is_of_the_kind_that_one_would_say(hint: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not is_kind(value, hint)] == []
    assert [value for value in bad if is_kind(value, hint)] == []
