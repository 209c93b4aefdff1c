import torch

# The tests' networks are so small that threads would only wait for each other.
torch.set_num_threads(1)
