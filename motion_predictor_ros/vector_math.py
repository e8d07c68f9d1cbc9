# SPDX-License-Identifier: Apache-2.0
"""Nonlinearities for compiled loops, in operations that processors have for vectors."""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, int32
from numba.extending import intrinsic

from motion_predictor_ros.compiled import compiled


def _read_bits(typing: Any, bits: Any) -> Any:
    """Read 32 bits as a float: the exponent of a power of two is set so."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return float32(int32), generate


_from_bits: Any = intrinsic(_read_bits)

fused = partial(compiled, rounding=('contract',))
"""A product and a sum are one operation where the processor has it."""


@fused
def exp_of_minus(x):  # type: ignore[no-untyped-def]
    """Return exp(-x) in float32, held between 2^-126 and 2^126."""
    power = min(max(np.float32(-1.44269504) * x, np.float32(-126.0)), np.float32(126.0))
    whole = np.floor(power + np.float32(0.5))
    rest = power - whole
    two = np.float32(1.5403530e-4)
    two = two * rest + np.float32(1.3333558e-3)
    two = two * rest + np.float32(9.6181291e-3)
    two = two * rest + np.float32(5.5504109e-2)
    two = two * rest + np.float32(0.24022651)
    two = two * rest + np.float32(0.69314718)
    two = two * rest + np.float32(1.0)
    exponent = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return two * _from_bits(exponent)


@fused
def sigmoid(x):  # type: ignore[no-untyped-def]
    """Return 1 / (1 + exp(-x)) in float32."""
    return np.float32(1.0) / (np.float32(1.0) + exp_of_minus(x))


@fused
def silu(x):  # type: ignore[no-untyped-def]
    """Return x / (1 + exp(-x)) in float32."""
    return x / (np.float32(1.0) + exp_of_minus(x))
