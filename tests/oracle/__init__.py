"""The naive model that the compiled one is held to, and what makes lives for both.

It shares nothing with the package but constants; `models` alone knows both.
"""
