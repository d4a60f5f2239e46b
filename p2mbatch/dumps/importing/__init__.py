"""From a real guest's file to a trace."""
