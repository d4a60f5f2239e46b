"""What was found, kept and counted: columns, journal, results, exports, fates."""
