"""Healthy trainings of real architectures: each learns what there is to learn.

Each case is a function that builds a model, trains it on data made from a seed (or on the digits
of scikit-learn), and returns what it has reached; where that is not what it should reach, it
raises an error. So none is called healthy that is not.
"""

import _common_tf  # noqa: F401 - imports TensorFlow quietly
import _healthy_images  # noqa: F401 - each lists its cases
import _healthy_loops  # noqa: F401
import _healthy_sequences  # noqa: F401
import _healthy_settings  # noqa: F401
import _healthy_tables  # noqa: F401
from _healthy_data import HEALTHY

__all__ = ["HEALTHY"]
