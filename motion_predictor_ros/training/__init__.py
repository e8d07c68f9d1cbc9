# SPDX-License-Identifier: Apache-2.0
"""Training of MotionDEQ, CacheFlow and the spread of volumes, from recordings."""
