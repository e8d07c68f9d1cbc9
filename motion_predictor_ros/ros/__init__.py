# SPDX-License-Identifier: Apache-2.0
"""The only part that knows ROS: parameters, messages, nodes."""
