"""Conformance suites for people who write their own components; needs pytest (or any runner of classes named ``Test…``)."""
