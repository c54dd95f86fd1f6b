"""Small networks gain nothing from threads, and two workers fighting over cores lose; no test may depend on the clock."""

import hypothesis
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")
