"""How bytes on disk become columns; sources are made of these."""
