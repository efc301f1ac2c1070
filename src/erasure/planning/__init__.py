"""From an experiment to its stages: what is computed, from what, under which address."""
