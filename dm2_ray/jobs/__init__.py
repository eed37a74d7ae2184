"""Jobs on a Ray cluster, seen from the machine of whoever submits them: over the head's HTTP address alone."""
