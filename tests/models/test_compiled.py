from typing import Any

import numpy as np

from unroll.models.compiled import compiled


def test_a_function_is_compiled_where_its_code_cannot_be_kept() -> None:
    names: dict[str, Any] = {"factor": 2}
    # a function without a file
    exec("def multiply(values):\n    for i in range(len(values)):\n        values[i] *= factor", names)
    multiply, values = compiled(names["multiply"]), np.array([1.5, -2.0])
    multiply(values)
    names["factor"] = 10  # which machine code does not read again
    multiply(values)
    assert values.tolist() == [6, -8]
