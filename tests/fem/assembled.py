"""Matrices of finite elements, assembled point by point: what the operators are compared with.

Uses NumPy only, and nothing of mplinalg.
"""

import functools
import itertools
import math

import numpy as np
from numpy.polynomial import legendre


def rule(name, q):
    """Points on [-1, 1] and weights."""
    if name == "gauss":
        return legendre.leggauss(q)
    last = np.eye(q)[q - 1]  # the Legendre polynomial of degree q - 1
    slope = legendre.legder(last)
    inner = np.sort(legendre.legroots(slope).real)
    inner -= legendre.legval(inner, slope) / legendre.legval(inner, legendre.legder(slope))
    points = np.concatenate([[-1.0], inner, [1.0]])
    return points, 2 / (q * (q - 1) * legendre.legval(points, last) ** 2)


def lagrange(nodes, x):
    """Values and slopes of the Lagrange polynomials of `nodes` at points x, shape (x, nodes)."""
    value, slope = np.ones((len(x), len(nodes))), np.zeros((len(x), len(nodes)))
    for j, node in enumerate(nodes):
        others = [m for m in range(len(nodes)) if m != j]
        for m in others:
            value[:, j] *= (x - nodes[m]) / (node - nodes[m])
        for k in others:
            term = np.full(len(x), 1 / (node - nodes[k]))
            for m in others:
                if m != k:
                    term *= (x - nodes[m]) / (node - nodes[m])
            slope[:, j] += term
    return value, slope


def outer(factors):
    """Tensor product of 1-D arrays (points, nodes), that of x first; x is the fastest."""
    total = factors[0]
    for factor in factors[1:]:
        total = np.kron(factor, total)
    return total


class Assembled:
    """The mesh, node by node, and matrices on it.

    mapping: function of the coordinates; order: x first in `cells` and `lengths`.
    """

    def __init__(self, cells, p, q, quadrature, mapping=None, lengths=None):
        self.dim, self.cells, self.p = len(cells), cells, p
        nodes, _ = rule("gll", p + 1)
        points, weights = rule(quadrature, q)
        value, slope = lagrange(nodes, points)
        self.value = outer([value] * self.dim)
        self.slopes = [
            outer([slope if axis == d else value for axis in range(self.dim)])
            for d in range(self.dim)
        ]
        self.weights = functools.reduce(np.kron, [weights] * self.dim)
        counts = [n * p + 1 for n in cells]
        self.ndof = math.prod(counts)
        lines = []
        for n, length in zip(cells, lengths or [1.0] * self.dim, strict=True):
            line = [(e + (1 + t) / 2) * length / n for e in range(n) for t in nodes[:-1]]
            lines.append(np.array([*line, length]))
        steps = np.cumprod([1, *counts[:-1]])
        self.x = np.empty((self.dim, self.ndof))
        for place in itertools.product(*map(range, counts)):
            number = sum(i * s for i, s in zip(place, steps, strict=True))
            self.x[:, number] = [line[i] for line, i in zip(lines, place, strict=True)]
        if mapping is not None:
            self.x = np.array(mapping(*self.x))
        # elements and the nodes within them: x is the fastest in both
        self.elements = []
        for cell in itertools.product(*map(range, reversed(cells))):
            cell = cell[::-1]
            self.elements.append([
                sum((e * p + i) * s for e, i, s in zip(cell, local[::-1], steps, strict=True))
                for local in itertools.product(range(p + 1), repeat=self.dim)
            ])  # fmt: skip

    def at_points(self, element):
        """Points (q, dim), weights times determinant, gradients (q, dim, nodes) in space."""
        x = self.x[:, self.elements[element]]
        jacobian = np.stack([x @ s.T for s in self.slopes], axis=-1)  # dim, q, dim
        jacobian = np.moveaxis(jacobian, 1, 0)
        gradients = np.linalg.inv(jacobian).swapaxes(1, 2) @ np.stack(self.slopes, axis=1)
        return self.value @ x.T, self.weights * np.linalg.det(jacobian), gradients

    def mass(self, coefficient=lambda *x: 1.0):
        total = np.zeros((self.ndof, self.ndof))
        for e, nodes in enumerate(self.elements):
            points, weights, _ = self.at_points(e)
            w = weights * coefficient(*points.T)
            total[np.ix_(nodes, nodes)] += self.value.T @ (w[:, None] * self.value)
        return total

    def diffusion(self, tensor=None):
        """With `tensor`: a function of one point that gives (dim, dim)."""
        total = np.zeros((self.ndof, self.ndof))
        for e, nodes in enumerate(self.elements):
            points, weights, gradients = self.at_points(e)
            for point, weight, gradient in zip(points, weights, gradients, strict=True):
                k = np.eye(self.dim) if tensor is None else tensor(*point)
                total[np.ix_(nodes, nodes)] += weight * gradient.T @ k @ gradient
        return total


def error(computed, matrix, u):
    """max |y - A u| / (||A|| max |u|) over nodal values, the last axis."""
    size = abs(matrix).sum(axis=1).max() * abs(u).max()
    return float(abs(computed - u @ matrix.T).max() / size)


def bent(*x):
    """A smooth mapping with curved edges, in one to three dimensions."""
    if len(x) == 1:
        return (x[0] + 0.2 * x[0] ** 2,)
    if len(x) == 2:
        return x[0] + 0.1 * np.sin(2 * x[1]), x[1] + 0.15 * x[0] ** 2
    return (
        x[0] + 0.1 * np.sin(x[1] + x[2]), x[1] + 0.1 * x[0] * x[2], x[2] - 0.1 * np.cos(2 * x[0]),
    )  # fmt: skip
