"""What everything else stands on: errors, sizes, geometry, entries, arrays, files."""
