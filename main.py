"""``python main.py CONFIG`` runs an experiment; ``python main.py --help`` lists everything else."""

import sys

from erasure.cli import COMMANDS, main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-"):
        arguments = ["run", *arguments]
    main(arguments)
