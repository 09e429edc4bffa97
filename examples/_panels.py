"""Boundary elements on flat triangles, which two examples share.

The potential of a triangle in closed form is that of D. R. Wilton et al., IEEE Transactions on
Antennas and Propagation 32 (1984) 276-281.
"""

import itertools

import numpy as np


def octahedral_sphere(k):
    """8 k^2 triangles with corners on the unit sphere, shape (8 k^2, 3, 3)."""
    inside = [(i, j) for i in range(k) for j in range(k - i)]
    flat = [[(i, j), (i + 1, j), (i, j + 1)] for i, j in inside]
    flat += [[(i + 1, j), (i + 1, j + 1), (i, j + 1)] for i, j in inside if i + j < k - 1]
    i, j = np.moveaxis(np.array(flat, dtype=float), -1, 0)
    octant = np.stack([i, j, k - i - j], axis=-1)
    octant /= np.linalg.norm(octant, axis=-1, keepdims=True)
    signs = np.array(list(itertools.product((1, -1), repeat=3)))
    return (signs[:, None, None] * octant).reshape(-1, 3, 3)


def potentials(triangles, points):
    """Potential of unit density on each triangle at each point, and the triangles' areas."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    areas = np.linalg.norm(normal, axis=1) / 2
    normal /= 2 * areas[:, None]
    height = np.abs(points @ normal.T - np.sum(normal * triangles[:, 0], axis=1))
    total = np.zeros_like(height)
    for e in range(3):
        start, end = triangles[:, e], triangles[:, (e + 1) % 3]
        along = (end - start) / np.linalg.norm(end - start, axis=1)[:, None]
        across = np.cross(along, normal)  # out of the triangle, in its plane
        t = np.sum(across * start, axis=1) - points @ across.T
        s0, s1 = (np.sum(along * p, axis=1) - points @ along.T for p in (start, end))
        foot = t**2 + height**2
        r0, r1 = np.sqrt(foot + s0**2), np.sqrt(foot + s1**2)
        turn = np.arctan2(t * s1, foot + height * r1) - np.arctan2(t * s0, foot + height * r0)
        total += t * np.log((r1 + s1) / (r0 + s0)) - height * turn
    return total, areas
