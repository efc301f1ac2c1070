"""What a run leaves on disk; each file has one owner here, which writes and reads it."""
