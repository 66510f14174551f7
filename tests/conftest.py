"""Tiers of tests, and Hypothesis profiles.

``pytest -m "not slow"`` leaves out what takes more than a second or two; what is slow is listed here, in one place.
What starts processes of its own is marked ``process`` too.

Hypothesis profiles: ``ci`` (the default) draws the same examples every time, ``deep`` draws many fresh ones.

Chosen by the environment variable SECAGG_HYPOTHESIS_PROFILE.  Tests that want more or fewer examples than the profile
scale ``settings().max_examples``, so that ``deep`` deepens all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import Phase, settings

# No deadline: the first call of a kernel compiles it, and that is nobody's slow example.  No example database either:
# `ci` has none by nature, and the workers of pytest-xdist would share it.
settings.register_profile("ci", max_examples=100, derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("deep", max_examples=2500, deadline=None, database=None, print_blob=True, phases=tuple(Phase))
settings.load_profile(os.environ.get("SECAGG_HYPOTHESIS_PROFILE", "ci"))

_TESTS = Path(__file__).parent
_PROCESS = {
    "benchmarks/test_scripts.py",
    "cli/test_entry.py",
    "flower/test_flower_engine.py",
    "hosting/test_polling_programs.py",
    "net/test_carriers.py",
    "net/test_ballot_commands.py",
    "net/test_chained_commands.py",
    "net/test_commands.py",
    "net/test_crashes.py",
    "net/test_doors.py",
    "net/test_group_rounds.py",
    "net/test_precision.py",
    "net/test_private_commands.py",
    "net/test_service_page.py",
    "net/test_study_commands.py",
    "net/test_study_tutorial.py",
    "net/test_sums_apart_commands.py",
    "net/test_tls_workers.py",
    "nvflare/test_nvflare_poc.py",
    "nvflare/test_nvflare_simulator.py",
    "privacy/test_privacy_budget_processes.py",
    "privacy/test_private_targets.py",
    "protocol/test_executors.py",
    "protocol/test_read_only_install.py",
    "protocol/test_sharded_engines.py",
    "spec/test_mutate.py",
    "unit/test_fused_choice.py",
}
_SLOW = _PROCESS | {
    "adversary/test_bookkeeping.py",
    "adversary/test_curious_server.py",
    "adversary/test_lying_server.py",
    "adversary/test_malicious_clients.py",
    "adversary/test_mutants.py",
    "adversary/test_tracebacks.py",
    "cli/test_demo.py",
    "cli/test_demo_attack.py",
    "cli/test_demo_private.py",
    "cli/test_plan.py",
    "cli/test_plan_private.py",
    "cli/test_simulate.py",
    "cli/test_simulate_precision.py",
    "cli/test_simulate_private.py",
    "cli/test_stats_check.py",
    "differencing/test_batches.py",
    "docs/test_docs.py",
    "flower/test_flower_active.py",
    "flower/test_flower_announcement.py",
    "flower/test_flower_ballots.py",
    "flower/test_flower_batches.py",
    "flower/test_flower_bfloat16.py",
    "flower/test_flower_carrier.py",
    "flower/test_flower_clients.py",
    "flower/test_flower_groups.py",
    "flower/test_flower_levels.py",
    "flower/test_flower_lora.py",
    "flower/test_flower_lying_server.py",
    "flower/test_flower_metrics.py",
    "flower/test_flower_parts.py",
    "flower/test_flower_private.py",
    "flower/test_flower_records.py",
    "flower/test_flower_rounds.py",
    "flower/test_flower_strategies.py",
    "flower/test_flower_study.py",
    "flower/test_flower_weights.py",
    "flower/test_flower_whole_numbers.py",
    "flower/test_flower_wrong.py",
    "hosting/test_http_polling.py",
    "net/test_abuse.py",
    "net/test_ballot_rounds.py",
    "net/test_certified_totals.py",
    "net/test_client_scores.py",
    "net/test_crash_points.py",
    "net/test_net_lying_server.py",
    "net/test_private_levels.py",
    "net/test_private_rounds.py",
    "net/test_service.py",
    "net/test_statements.py",
    "net/test_study_noise.py",
    "net/test_study_rounds.py",
    "net/test_sums_apart.py",
    "nvflare/test_nvflare_jobs.py",
    "nvflare/test_nvflare_rounds.py",
    "nvflare/test_nvflare_sites.py",
    "privacy/test_adaptive_clipping.py",
    "privacy/test_levels_in_rounds.py",
    "privacy/test_noise_distribution.py",
    "privacy/test_noise_removal.py",
    "privacy/test_privacy_accounting.py",
    "privacy/test_privacy_audit.py",
    "privacy/test_privacy_calibration.py",
    "privacy/test_privacy_report.py",
    "privacy/test_private_encoder.py",
    "privacy/test_private_encoding.py",
    "privacy/test_private_error.py",
    "privacy/test_private_noise.py",
    "privacy/test_private_terms.py",
    "property/test_carriers.py",
    "property/test_encoding_property.py",
    "property/test_fuzz.py",
    "property/test_groups.py",
    "property/test_rounds.py",
    "protocol/test_fates.py",
    "protocol/test_groups.py",
    "protocol/test_hybrid_rounds.py",
    "protocol/test_parallel_verification.py",
    "protocol/test_prepared.py",
    "spec/test_private_spec.py",
    "spec/test_reference.py",
    "spec/test_vectors.py",
    "spec/test_verdicts.py",
    "spec/test_version_2.py",
    "statistics/test_any_study.py",
    "statistics/test_covariance.py",
    "statistics/test_cox.py",
    "statistics/test_data_splits.py",
    "statistics/test_every_method.py",
    "statistics/test_example.py",
    "statistics/test_files_as_they_are.py",
    "statistics/test_glm.py",
    "statistics/test_kaplan_meier.py",
    "statistics/test_linear.py",
    "statistics/test_noise.py",
    "statistics/test_quantiles.py",
    "statistics/test_report.py",
    "statistics/test_shipped_data.py",
    "statistics/test_suppression.py",
    "statistics/test_tables.py",
    "unit/test_arithmetic.py",
    "unit/test_envelopes.py",
    "unit/test_ntt.py",
    "unit/test_fused_aes.py",
    "unit/test_masking.py",
    "unit/test_secret_sharing.py",
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The quick tier does not even import what it leaves out: that alone takes each worker half of its time."""
    if config.getoption("markexpr") != "not slow" or not collection_path.is_relative_to(_TESTS):
        return None
    return True if collection_path.relative_to(_TESTS).as_posix() in _SLOW else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and what starts processes."""
    for item in items:
        if not item.path.is_relative_to(_TESTS):  # asked for by path, as the benchmarks are
            continue
        module = item.path.relative_to(_TESTS).as_posix()
        if module in _SLOW:
            item.add_marker(pytest.mark.slow)
        if module in _PROCESS:
            item.add_marker(pytest.mark.process)
