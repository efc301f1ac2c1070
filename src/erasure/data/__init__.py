"""Columnar data sets, their partitions, and the sources and splitters that make them."""
