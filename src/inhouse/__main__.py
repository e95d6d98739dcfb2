"""`python -m inhouse` is `inhouse`."""

from inhouse.cli.app import main

if __name__ == "__main__":
    main()
