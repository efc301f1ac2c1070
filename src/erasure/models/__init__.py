"""Families of networks, one file each. Each returns ``(features, logits)``, so that measures can look at the last hidden layer."""
