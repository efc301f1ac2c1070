"""What a user does: run, sweep, tune."""
