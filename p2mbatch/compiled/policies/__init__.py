"""How each kernel builds its mfn list list: one file a policy."""
