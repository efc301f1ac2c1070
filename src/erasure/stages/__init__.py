"""One handler for each kind of stage."""
