"""`python -m swell`."""

from swell.cli import main

raise SystemExit(main())
