"""Runs study.toml over the files of a directory in one process: ``python simulate.py DIRECTORY``; see README.md."""

from __future__ import annotations

import sys
from pathlib import Path

from secagg.statistics import Site, Study, open_data, simulate_study
from secagg.statistics.report import write_report


def main() -> None:
    study = Study.load(Path(__file__).with_name("study.toml"))
    sites = {}
    for file in sorted(Path(sys.argv[1]).glob("hospital-*.csv")):
        sites[file.stem] = Site(study, open_data(file, study))
        sites[file.stem].check()
    write_report(simulate_study(sites), Path("report"))
    sys.stdout.write("report/report.html\n")


if __name__ == "__main__":
    main()
