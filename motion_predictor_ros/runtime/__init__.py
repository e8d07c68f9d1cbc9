# SPDX-License-Identifier: Apache-2.0
"""Execution, independent of what is computed: threads, compilation, memory, graphs, load shedding."""
