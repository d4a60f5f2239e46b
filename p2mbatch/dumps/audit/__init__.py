"""What a real guest's file holds, and whether it can be saved."""
