"""Knowledge distillation of streaming speech models on ESPnet2 recipes."""

__version__ = "0.1.0"
