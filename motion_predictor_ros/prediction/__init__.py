# SPDX-License-Identifier: Apache-2.0
"""Stage 2: the likeliest future. MotionDEQ and its streaming state."""
