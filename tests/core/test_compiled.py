from typing import Any

import numpy as np

from unroll.core.compiled import compiled


def test_a_function_is_compiled_where_its_code_cannot_be_kept() -> None:
    functions: dict[str, Any] = {}
    exec("def double(values):\n    for i in range(len(values)):\n        values[i] *= 2", functions)  # without a file
    values = np.array([1.5, -2.0])
    compiled(functions["double"])(values)
    assert values.tolist() == [3, -4]
