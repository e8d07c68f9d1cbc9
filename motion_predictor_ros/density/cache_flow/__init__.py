# SPDX-License-Identifier: Apache-2.0
"""CacheFlow: the density of futures by lookup in a precomputed flow."""
