# SPDX-License-Identifier: Apache-2.0
"""Messages for planners and RViz: one class an output, found by registry."""
