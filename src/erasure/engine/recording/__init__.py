"""From finished stages to rows and the record of a run."""
