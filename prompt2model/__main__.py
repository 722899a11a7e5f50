"""`python -m prompt2model` is `prompt2model`."""

from prompt2model.cli import main

if __name__ == "__main__":
    main()
