# SPDX-License-Identifier: Apache-2.0
"""From what was seen to all futures, weighed: CacheFlow."""
