"""The one training loop, batches on the device, random streams, and per-sample gradients."""
