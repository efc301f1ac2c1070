"""Unlearning methods, one file each, on the contract of :mod:`erasure.unlearners.contract`."""
