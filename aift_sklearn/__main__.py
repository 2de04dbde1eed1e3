"""``python -m aift_sklearn``: the command ``aift``."""

from .cli import main

if __name__ == "__main__":
    main()
