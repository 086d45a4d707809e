"""`python -m toongan`"""

from toongan.cli import main

if __name__ == "__main__":
    main()
