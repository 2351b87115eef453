"""How far apart C directions in D dimensions can be: what is reached, and what cannot be.

Each is a margin 1 − cos θ or a cosine, θ being the smallest angle between two of the C centres.
"""

from __future__ import annotations

import math

from scipy.linalg import eigvalsh_tridiagonal
from scipy.special import betaincinv

# Levenshtein's bound is followed to polynomials of degree 2 · 64; beyond, few dimensions hold very many
# classes and the caps' bound is within some percent of it.
_MOST_LEVENSHTEIN_ORDER = 64


def simplex_margin(num_classes: int) -> float:
    """C/(C−1): all cosines of a regular simplex are −1/(C−1)."""
    return num_classes / (num_classes - 1)


def circle_margin(num_classes: int) -> float:
    """1 − cos(2π/C): neighbours on a circle, without cancellation for many."""
    return 2 * math.sin(math.pi / num_classes) ** 2


def disjoint_caps_margin(num_classes: int, dim: int) -> float:
    """Above it caps of half the smallest angle θ around C centres would overlap: C Ω(θ/2) ≤ 1.

    Ω(β) = ½ I_{sin²β}((D−1)/2, ½) is a cap's part of the sphere, and 1 − cos θ = 2 sin²(θ/2).
    """
    return 2 * float(betaincinv((dim - 1) / 2, 0.5, 2 / num_classes))


def greedy_margin(num_classes: int, dim: int) -> float:
    """While (C−1) Ω(θ) < 1 the caps of angle θ around C − 1 centres leave room for one more (Shannon 1959).

    1 − cos θ from sin²θ as in `disjoint_caps_margin`, without cancellation for the smallest θ.
    """
    sine_squared = float(betaincinv((dim - 1) / 2, 0.5, 2 / (num_classes - 1)))
    return sine_squared / (1 + math.sqrt(1 - sine_squared))


def code_cosine(num_classes: int, dim: int) -> float:
    """The largest cosine of 2^(kt+1) centres ±(−1)^Tr(f(a)), a in GF(2^k), in the first 2^k ≤ D dimensions.

    f has t coefficients, of a, a³, …, a^(2t−1). Two centres' product is a sum over a of (−1)^Tr(f − g), at
    most (2t−2) 2^(k/2) (Weil; Carlitz & Uchiyama 1957), for t = 2 and odd k 2^((k+1)/2) (Gold 1968).
    """
    bits = (num_classes - 1).bit_length()
    least = 1.0
    for k in range(3, dim.bit_length()):
        t = -(-(bits - 1) // k)
        gold = t == 2 and k % 2 == 1
        least = min(least, 2 ** ((1 - k) / 2) if gold else (2 * t - 2) * 2 ** (-k / 2))
    return least


def levenshtein_cosine(num_classes: int, dim: int) -> float:
    """A cosine that two of C > 2D centres in D ≥ 3 dimensions surely exceed or equal (Levenshtein 1979).

    With P_i the Gegenbauer polynomials of the sphere, Σ_{ij} P_i(w_i·w_j) ≥ 0. Hence for f = Σ f_i P_i with
    f_i ≥ 0 and f ≤ 0 on [−1, s], if all cosines are at most s: C² f_0 ≤ Σ_{ij} f(w_i·w_j) ≤ C f(1)
    (Delsarte). Levenshtein's f, the best of its degree, turns C ≤ f(1)/f_0 in an interval of s each into

        C ≤ L_2k−1(s) = binom(k+D−3, k−1) ((2k+D−3)/(D−1) − (P_k−1 − P_k) / ((1−s) P_k))
        C ≤ L_2k(s)   = binom(k+D−2, k) ((2k+D−1)/(D−1) − (1+s)(P_k − P_k+1) / ((1−s)(P_k + P_k+1)))

    at whose ends L is 2 binom(k+D−2, D−1), binom(k+D−1, D−1) + binom(k+D−2, D−1), 2 binom(k+D−1, D−1). L
    grows with s, so s where L(s) = C bounds the largest cosine from below. The ends are the largest zeros
    of the Jacobi polynomials of degrees k−1, k, k with α = (D−1)/2 and β = α, α − 1, α.
    """
    alpha, k = (dim - 1) / 2, 2
    while k < _MOST_LEVENSHTEIN_ORDER and num_classes > 2 * math.comb(k + dim - 1, dim - 1):
        k += 1
    odd = num_classes <= math.comb(k + dim - 1, dim - 1) + math.comb(k + dim - 2, dim - 1)
    middle = _largest_jacobi_zero(k, alpha, alpha - 1)
    if odd:
        low, high = _largest_jacobi_zero(k - 1, alpha, alpha), middle
    else:
        low, high = middle, _largest_jacobi_zero(k, alpha, alpha)
    for _ in range(60):
        cosine = (low + high) / 2
        if _levenshtein(cosine, k, odd, dim) < num_classes:
            low = cosine
        else:
            high = cosine
    return low


def _levenshtein(s: float, k: int, odd: bool, dim: int) -> float:
    """L_2k−1(s) or L_2k(s); the polynomials by their recurrence, (i+D−2) P_i+1 = (2i+D−2) s P_i − i P_i−1."""
    before, now = 1.0, s
    for i in range(1, k if odd else k + 1):
        before, now = now, ((2 * i + dim - 2) * s * now - i * before) / (i + dim - 2)
    if odd:
        shape = (2 * k + dim - 3) / (dim - 1) - (before - now) / ((1 - s) * now)
        return math.comb(k + dim - 3, k - 1) * shape
    shape = (2 * k + dim - 1) / (dim - 1) - (1 + s) * (before - now) / ((1 - s) * (before + now))
    return math.comb(k + dim - 2, k) * shape


def _largest_jacobi_zero(degree: int, alpha: float, beta: float) -> float:
    """The largest eigenvalue of the recurrence as a symmetric tridiagonal matrix (Golub & Welsch 1969)."""
    total = alpha + beta
    diagonal = [(beta**2 - alpha**2) / ((2 * n + total) * (2 * n + total + 2)) for n in range(degree)]
    beside = [
        4
        * n
        * (n + alpha)
        * (n + beta)
        * (n + total)
        / ((2 * n + total) ** 2 * (2 * n + total + 1) * (2 * n + total - 1))
        for n in range(1, degree)
    ]
    return float(eigvalsh_tridiagonal(diagonal, [math.sqrt(square) for square in beside])[-1])
