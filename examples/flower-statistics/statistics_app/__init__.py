"""A study between hospitals over Flower."""

from pathlib import Path

from secagg.statistics import Study

STUDY = Study.load(Path(__file__).with_name("study.toml"))
