"""Statistics between organisations, from secure sums: ``Study``, ``Site``, ``Analyst``.

    study = Study.load("study.toml")                  # the one document that everybody agrees on
    site = Site(study, dataset)                       # at each organisation
    analyst = Analyst(study)                          # where the rounds are run
    while (question := analyst.question()) is not None:
        ...                                           # a secure sum of every site.answer(question)
        analyst.release(question, sums, sites)
    analyst.result()

A method is what to sum now, given what was released so far; any host that can run a secure sum can carry it.
"""

from secagg.errors import DisclosureError
from secagg.statistics.analyst import Analyst
from secagg.statistics.chunk import Chunk, Dataset
from secagg.statistics.data import open_data
from secagg.statistics.layout import StudyLayout
from secagg.statistics.ledger import Entry, Ledger, LedgerFileError
from secagg.statistics.policy import SitePolicy, load_policy
from secagg.statistics.question import Question
from secagg.statistics.results import MethodResult, Reported, StudyResult
from secagg.statistics.simulated import simulate_study
from secagg.statistics.site import Site, SiteCheck
from secagg.statistics.study import Study

__all__ = [
    "Analyst",
    "Chunk",
    "Dataset",
    "DisclosureError",
    "Entry",
    "Ledger",
    "LedgerFileError",
    "MethodResult",
    "Question",
    "Reported",
    "Site",
    "SiteCheck",
    "SitePolicy",
    "Study",
    "StudyLayout",
    "StudyResult",
    "load_policy",
    "open_data",
    "simulate_study",
]
