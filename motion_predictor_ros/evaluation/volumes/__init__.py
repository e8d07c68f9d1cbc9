# SPDX-License-Identifier: Apache-2.0
"""Protocol for keep-out volumes: coverage, missed shares, size and reliability."""
