"""`python -m segdecay`: the command line."""

from segdecay.cli.main import run

if __name__ == "__main__":
    run()
