# SPDX-License-Identifier: Apache-2.0
"""MotionDEQ: predicted motion from the fixed point of an equivariant layer."""
