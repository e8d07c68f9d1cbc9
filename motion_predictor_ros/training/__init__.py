# SPDX-License-Identifier: Apache-2.0
"""Make models from recordings. Stands beside the line; nothing in the line imports it."""
