"""`python -m p2mbatch`: the same as the `p2mbatch` command."""

from p2mbatch.cli import main

if __name__ == "__main__":
    main()
