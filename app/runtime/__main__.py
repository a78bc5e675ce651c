"""`python -m app.runtime` is `python -m app runtime`."""

import sys

from app.runtime.main import main

sys.exit(main())
