# SPDX-License-Identifier: Apache-2.0
"""What was measured, and how: bags, replays, protocols, metrics, reports."""
