"""For all rooms: properties are checked however busy the machine is."""

import os

from hypothesis import settings

# Where CI is set, Hypothesis takes a profile of its own, which has no deadline either.
if "CI" not in os.environ:
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")
