"""Published rows of the mechanism: scale, noise, norm bound and epsilon, each to six digits."""

from __future__ import annotations

import math
from fractions import Fraction

import dp_accounting
import pytest
from dp_accounting.rdp import RdpAccountant

from secagg.privacy import accounting
from secagg.privacy.calibration import finest_scale
from secagg.privacy.parameters import Mechanism, NoiseKind

DELTA = 1e-5
ORDERS = (*range(2, 129), 256)
USUAL = math.exp(-0.5)
ROWS = [
    # n, d, b, z, beta, S, s, D2', epsilon of the discrete Gaussian, epsilon of Skellam; c = 1, one round, p = 1e-4
    (100, 2**16, 16, 1.0, 0.0, 7845.076, 784.5076, 1.032632, 4.918550, 4.918550),
    (100, 2**16, 16, 1.0, USUAL, 7845.076, 784.5076, 1.000198, 4.753718, 4.753718),
    (100, 2**16, 20, 1.0, 0.0, 125521.238, 12552.124, 1.002039, 4.762936, 4.762936),
    (1000, 2**20, 18, 1.0, USUAL, 24102.835, 762.199, 1.000247, 4.753962, 4.753962),
    (1000, 2**20, 20, 0.5, USUAL, 122828.668, 1942.092, 1.000013, 10.801845, 10.801845),
    (100, 2**16, 12, 1.0, USUAL, 490.295, 49.0295, 1.034760, 4.929549, 4.929562),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"n={row[0]} b={row[2]} beta={row[4]:.2g}")
def test_golden_rows(row: tuple[float, ...]) -> None:
    clients, dimension, bits, z, beta, golden_scale, golden_s, golden_norm, golden_gaussian, golden_skellam = row
    n, d = int(clients), int(dimension)
    share = z / math.sqrt(n)  # sigma_loc, with c = 1
    # The scale that leaves room for this noise, from both sides: the closed form at sigma_loc, ours at S sigma_loc.
    k = 3.8905918864131207  # sqrt(2) erfcinv(1e-4)
    scale = math.sqrt(4.0**bits - n * k**2) / (2 * k * math.sqrt(n**2 / d + n * share**2))
    assert scale == pytest.approx(golden_scale, rel=1e-6, abs=5e-4)
    assert finest_scale(int(bits), n, d, 1.0, (scale * share) ** 2) == pytest.approx(scale, rel=1e-10)
    assert scale * share == pytest.approx(golden_s, rel=1e-6)

    mechanism = Mechanism(
        noise=NoiseKind.SKELLAM,
        clip=1.0,
        scale=Fraction(scale),
        bits=int(bits),
        rounding_failure=beta,
        variance=1,  # whole numbers only; the lines below take the real one
        length=d,
    )
    assert mechanism.norm_bound == pytest.approx(golden_norm, abs=6e-7)
    squared, l1 = mechanism.scaled_norm_bound**2, mechanism.l1_bound
    variance = (scale * share) ** 2
    gaussian = accounting.discrete_gaussian_lines(n, variance, squared, l1, d)
    skellam = accounting.skellam_lines(n * variance, squared, l1)
    for orders in (ORDERS, accounting.ORDERS):  # orders beyond are for an epsilon far below these
        assert least_epsilon(gaussian, orders) == pytest.approx(golden_gaussian, abs=6e-7)
        assert least_epsilon(skellam, orders) == pytest.approx(golden_skellam, abs=6e-7)


def least_epsilon(lines: accounting.Lines, orders: tuple[int, ...]) -> float:
    events = [dp_accounting.ZCDpEvent(rho, xi) for rho, xi in lines]
    return min(RdpAccountant(orders).compose(event).get_epsilon(DELTA) for event in events)


@pytest.mark.parametrize(("z", "golden"), [(1.0, 4.752728), (0.5, 10.801691)])
def test_the_plain_gaussian(z: float, golden: float) -> None:
    assert accounting.gaussian_epsilon(z, DELTA) == pytest.approx(golden, abs=6e-7)
    assert accounting.gaussian_multiplier(golden, DELTA) == pytest.approx(z, rel=1e-6)
