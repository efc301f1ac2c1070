"""From a configuration to a plan of content-addressed stages, and from the plan to results."""
