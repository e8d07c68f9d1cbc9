# SPDX-License-Identifier: Apache-2.0
"""Models that MotionDEQ and CacheFlow are compared with."""
