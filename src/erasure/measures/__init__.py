"""Measures, one file a topic, on the contract of :mod:`erasure.measures.contract`."""
