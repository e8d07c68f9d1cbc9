# SPDX-License-Identifier: Apache-2.0
"""Stage 3: the density of all futures, as weighted samples. CacheFlow and its interface."""
