# SPDX-License-Identifier: Apache-2.0
"""How stages are executed: threads, compilation, memory, CUDA graphs, load shedding."""
