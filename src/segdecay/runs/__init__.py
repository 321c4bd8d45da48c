"""What a run leaves on disk: its folder, its lock and the records in it."""
