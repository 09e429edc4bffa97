"""Compiled kernels of finite elements: operators applied element by element, a lane for each.

- `groups`: which lane of which group of lanes has an element, and which groups run side by side;
  `packing`: factors into lanes.
- `operators`: mass and diffusion on groups, made of the `steps`, each of them straight vector code
  of a line of numbers (`lines`) or of rows in memory (`rows`).
- `vectors`: what conjugate gradients do besides.
"""
