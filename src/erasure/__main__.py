"""``python -m erasure``."""

from erasure.cli import main

if __name__ == "__main__":
    main()
