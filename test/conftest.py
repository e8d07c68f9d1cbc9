"""Tests run in float64, with shapes checked, and on a ROS domain of their own."""

import os
import tempfile
from collections.abc import Iterator

# Before rclpy is imported anywhere; `make test` sets the same.
os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
os.environ.setdefault('ROS_DOMAIN_ID', str(os.getpid() % 100 + 1))
os.environ.setdefault('ROS_PYTHON_CHECK_FIELDS', '1')
_ros_logs = tempfile.TemporaryDirectory(prefix='motion_predictor_ros_log_')
os.environ.setdefault('ROS_LOG_DIR', _ros_logs.name)

from jaxtyping import install_import_hook  # noqa: E402

# Before the first module of the package is imported; holds for the whole test run. The tower lets
# an int stand for a float, as PEP 484 and mypy do.
install_import_hook(
    'motion_predictor_ros',
    'beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))',
)

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

# The models are small: a second thread costs more than it gives, above all on a busy machine.
torch.set_num_threads(1)

# The first example pays for imports and compilation, so a deadline would only be noise.
settings.register_profile('local', deadline=None)
settings.register_profile('ci', deadline=None, derandomize=True)
settings.load_profile('ci' if os.environ.get('CI') else 'local')


@pytest.fixture(autouse=True)
def float64_by_default() -> Iterator[None]:
    """Compare in float64, where rounding hides nothing."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
