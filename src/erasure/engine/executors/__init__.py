"""Executors run the stages that the store lacks and nothing else; the results are the same bytes, whichever runs them."""
