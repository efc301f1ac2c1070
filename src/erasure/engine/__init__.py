"""Running stages: session, handlers, executors, and what is recorded of a run."""
