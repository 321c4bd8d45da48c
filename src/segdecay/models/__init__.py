"""Networks: the built-in U-Net, segmentation_models_pytorch, and user models."""
