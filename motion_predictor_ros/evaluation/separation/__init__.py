# SPDX-License-Identifier: Apache-2.0
"""Stop or go on: what each rule of speed and separation costs a robot, and what it misses."""
