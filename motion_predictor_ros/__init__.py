# SPDX-License-Identifier: Apache-2.0
"""Human motion prediction for robots: where a person will be, how likely, and how sure.

The generated `motion_predictor_ros.msg` is installed beside these modules; when this package is
imported from the source tree, `extend_path` finds it in the installed copy.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
