"""Pre-trained CNNs: backbones, their training, and the estimators around them."""
