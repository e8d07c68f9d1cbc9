# SPDX-License-Identifier: Apache-2.0
"""Trials of a live node: the demo, cut input, restarts, latency, long runs."""
