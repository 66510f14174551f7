"""Writes the files of some hospitals, all invented: ``python make_data.py [DIRECTORY [HOSPITALS]]``."""

from __future__ import annotations

import csv
import datetime
import sys
from pathlib import Path

import numpy as np

COLUMNS = (
    "treatment",
    "days",
    "died",
    "age",
    "sex",
    "bmi",
    "pressure",
    "smoker",
    "visits",
    "stage",
    "admitted",
    "risk",
)
FIRST_DAY = datetime.date(2023, 1, 1)
FOLLOWED = 365
"""Days after which whoever is alive leaves the study."""


def write_hospital(file: Path, number: int) -> None:
    """One hospital's patients: later hospitals have more, and older ones."""
    rng = np.random.default_rng(number)
    patients = 90 + 30 * number
    age = rng.normal(58 + number, 14, patients).clip(18, 95).round()
    new = rng.random(patients) < 0.5
    smoker = rng.random(patients) < 0.3
    bmi = rng.normal(27, 4, patients).clip(15, 55).round(1)
    pressure = (95 + 0.6 * age + 6 * smoker + rng.normal(0, 12, patients)).clip(70, 240).round()
    stage = rng.choice(["I", "II", "III"], patients, p=[0.5, 0.3, 0.2] if number != 2 else [0.6, 0.4, 0.0])
    hazard = np.exp(0.03 * (age - 60) + 0.5 * smoker + 0.6 * (stage == "III") - 0.7 * new) / 300
    lived = np.ceil(rng.exponential(1 / hazard))
    left = np.minimum(rng.integers(30, 2 * FOLLOWED, patients), FOLLOWED)
    risk = 1 / (1 + np.exp(-(np.log(hazard * 200) + rng.normal(0, 0.5, patients))))
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        for at in range(patients):
            writer.writerow(
                [
                    "new" if new[at] else "usual",
                    int(min(lived[at], left[at])),
                    int(lived[at] <= left[at]),
                    int(age[at]),
                    rng.choice(["1", "2"]),  # codes: the study says what they stand for
                    "" if rng.random() < 0.05 else bmi[at],
                    int(pressure[at]),
                    "yes" if smoker[at] else "no",
                    rng.poisson(2 + smoker[at]),
                    stage[at],
                    FIRST_DAY + datetime.timedelta(int(rng.integers(0, 730))),
                    round(float(risk[at]), 3),
                ]
            )


def main() -> None:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    hospitals = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(1, hospitals + 1):
        write_hospital(directory / f"hospital-{number}.csv", number)


if __name__ == "__main__":
    main()
