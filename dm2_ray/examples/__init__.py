"""Short programs that show how the package is used and extended; `python -m dm2_ray.examples.NAME` runs one."""
