"""`python -m ganforge` is `ganforge`."""

from ganforge.cli import main

raise SystemExit(main())
