"""Writers of real guests' files."""
