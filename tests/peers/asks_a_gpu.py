"""A user's file that wants a GPU as it is imported."""

import torch

SCRATCH = torch.empty(16, device="cuda")
