"""`python -m dm2_ray.cli`, the same as `dm2`."""

import sys

from dm2_ray.cli.main import main

sys.exit(main())
