"""The worked example on CIFAR-10."""
