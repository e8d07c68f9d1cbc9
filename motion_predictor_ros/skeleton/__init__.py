# SPDX-License-Identifier: Apache-2.0
"""Stage 1: what was seen. Decodes messages and puts each person on the model clock."""
