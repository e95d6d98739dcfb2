"""`python -m inhouse` is `inhouse`."""

from inhouse.cli import main

if __name__ == "__main__":
    main()
