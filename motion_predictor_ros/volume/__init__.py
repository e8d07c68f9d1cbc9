# SPDX-License-Identifier: Apache-2.0
"""From weighted futures to the space to keep free."""
