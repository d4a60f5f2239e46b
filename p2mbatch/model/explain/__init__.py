"""A life told step by step: what each check read, what each store hit, what it means."""
