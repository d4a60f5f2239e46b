"""What a user asks for: axes, sections, specs and their files."""
