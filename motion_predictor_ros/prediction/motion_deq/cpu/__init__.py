# SPDX-License-Identifier: Apache-2.0
"""MotionDEQ fused for one CPU thread; tested equal to the plain torch model."""
