"""The model around the compiled code: lives, hosts, placement, traces and their replay."""
