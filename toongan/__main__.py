"""`python -m toongan`"""

import sys

from toongan.errors import missing_package

if __name__ == "__main__":
    try:
        from toongan.cli import main
    except ModuleNotFoundError as error:
        if (sentence := missing_package(error)) is None:
            raise
        sys.exit(f"error: {sentence}")
    main()
