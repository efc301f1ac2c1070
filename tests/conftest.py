"""One thread per operation, and property tests that a slow machine does not fail.

Small tensors are slower with more threads, and results are the same bytes only for the same number. On CI the examples of property
tests are the same in every run; elsewhere they are drawn anew.
"""

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("erasure", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("erasure")
