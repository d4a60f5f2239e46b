"""What a policy of the user's own is compiled against: a kernel's words, exact and word by word."""
