"""`castore metrics`: what Prometheus's own parser reads, by its rules for names, and the same as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

import castore
from castore.errors import CorruptError, StorageError
from castore.monitoring.prometheus import Family, Sample, exposition
from castore.testing import faults
from tests.cli.shell import InProcess
from tests.samples import flip, packs, state


def parsed(text: str) -> dict[str, Metric]:
    """Metrics by name; Prometheus's parser leaves out the `_total` of counters."""
    return {one.name: one for one in text_string_to_metric_families(text)}


def value(metrics: dict[str, Metric], name: str, **labels: str) -> float:
    (found,) = [
        one.value
        for metric in metrics.values()
        for one in metric.samples
        if one.name == name and {**one.labels, **labels} == one.labels
    ]
    return found


def test_it_says_what_the_store_holds_and_what_happened(history: InProcess) -> None:
    history.ok("checkout", "main", "-o", "out.pt")
    history.ok("commit", "out.pt", "--tier", "gold", "--step", "9")
    history.ok("gc")
    metrics = parsed(history.ok("metrics"))
    stats = history.json("stats")
    commits = history.json("log")
    assert value(metrics, "castore_commits", state="present") == 4
    assert value(metrics, "castore_stored_bytes") == stats["stored_bytes"]
    assert value(metrics, "castore_last_commit_step", branch="main") == 9
    made = castore.open(history.directory).show("main").time.timestamp()
    assert value(metrics, "castore_last_commit_timestamp_seconds", branch="main") == made
    assert value(metrics, "castore_commit_raw_bytes", tier="gold") == commits[0]["raw_bytes"]
    assert value(metrics, "castore_commit_raw_bytes", tier="none") == sum(one["raw_bytes"] for one in commits[1:])
    assert 0 < value(metrics, "castore_dedup_ratio") < 1
    assert value(metrics, "castore_commits_made_total") == 4
    assert value(metrics, "castore_commit_seconds_count") == 4
    assert value(metrics, "castore_restore_seconds_count", how="checkout") == 1
    assert value(metrics, "castore_task_seconds_count", task="gc") == 1
    assert value(metrics, "castore_events_lost_total") == 0


def test_names_types_and_texts_follow_the_rules_of_prometheus(history: InProcess) -> None:
    history.ok("maintain")
    with castore.open(history.directory) as store, faults.inject("sync"), pytest.raises(StorageError):
        store.commit(state(1))
    found = [one for one in history.json("metrics") if one["samples"]]
    assert len(found) > 15
    for family in found:
        name, kind = family["name"], family["type"]
        assert re.fullmatch(r"castore_[a-z]+(_[a-z]+)*", name)
        assert family["help"].endswith(".")
        assert kind in ("gauge", "counter", "histogram")
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"_(ms|minutes|hours|kb|mb|percent|count|sum|bucket)(_|$)", name)  # base units
        assert kind != "histogram" or name.endswith("_seconds")
        for sample in family["samples"]:
            assert all(re.fullmatch("[a-z]+", label) for label in sample["labels"])
            assert kind != "counter" or sample["value"] >= 0
    failures = next(one for one in found if one["name"] == "castore_failures_total")
    assert [(one["labels"], one["value"]) for one in failures["samples"]] == [({"kind": "commit"}, 1)]


def test_histograms_are_cumulative_and_end_in_their_count(history: InProcess) -> None:
    for metric in parsed(history.ok("metrics")).values():
        if metric.type == "histogram":
            buckets = [one for one in metric.samples if one.name.endswith("_bucket")]
            counts = [one.value for one in buckets]
            assert counts == sorted(counts)
            assert [float(one.labels["le"]) for one in buckets] == sorted(float(one.labels["le"]) for one in buckets)
            assert buckets[-1].labels["le"] == "+Inf"
            (count,) = [one.value for one in metric.samples if one.name.endswith("_count")]
            assert count == counts[-1] > 0


def test_json_has_what_the_text_has(history: InProcess) -> None:
    text, record = history.ok("metrics"), history.json("metrics")
    read = {
        (one.name, *sorted(one.labels.items())): one.value for metric in parsed(text).values() for one in metric.samples
    }
    listed = {
        (one["name"], *sorted(one["labels"].items())): float(one["value"])
        for family in record
        for one in family["samples"]
    }
    assert read == listed
    for family in record:
        assert set(family) == {"name", "type", "help", "samples"}


def test_a_textfile_is_written_whole_where_node_exporter_can_read_it(history: InProcess, tmp_path: Path) -> None:
    target = tmp_path / "collector" / "castore.prom"
    assert "No such file" in history.refused(11, "metrics", "--textfile", target)
    target.parent.mkdir()
    target.write_text("old")
    assert history.ok("metrics", "--textfile", target) == ""
    assert "castore_commits" in parsed(target.read_text())
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in target.parent.iterdir()] == ["castore.prom"]


def test_an_empty_store_has_metrics(store: InProcess) -> None:
    metrics = parsed(store.ok("metrics"))
    assert value(metrics, "castore_commits", state="present") == 0
    assert value(metrics, "castore_commits_made_total") == 0
    assert "castore_commit_seconds" not in metrics


def test_what_others_wrote_into_names_stays_within_a_label(
    store: InProcess, write_checkpoint: Callable[..., Path]
) -> None:
    branch, of = 'x"}5', 'x"} 5\ncastore_evil 1\n# \\\ud800'
    store.ok("commit", write_checkpoint(), "--step", "3", "--branch", branch)
    with castore.open(store.directory) as opened:
        opened.repository.events.record("failure", of=of)
    metrics = parsed(store.ok("metrics"))
    assert "castore_evil" not in metrics
    assert value(metrics, "castore_last_commit_step", branch=branch) == 3
    assert value(metrics, "castore_failures_total", kind=of.replace("\ud800", "\\ud800")) == 1


def test_every_kind_of_number_is_read_as_it_is() -> None:
    numbers = [0.0, -1.5, 1e300, 5e-324, float("inf"), float("-inf"), 2.0**60, 1 / 3]
    samples = tuple(Sample("x", {"n": str(number)}, value) for number, value in enumerate(numbers))
    (metric,) = text_string_to_metric_families(exposition([Family("x", "gauge", "a\\b\nc", samples)]))
    assert [one.value for one in metric.samples] == numbers
    assert metric.documentation == "a\\b\nc"


def test_what_the_scrub_found_is_a_metric(history: InProcess) -> None:
    with castore.open(history.directory) as store:
        flip(packs(store)[0], 200)
    assert history.process.run("scrub").returncode == CorruptError.exit_code
    metrics = parsed(history.ok("metrics"))
    assert value(metrics, "castore_scrub_damaged_records") == 1
    assert value(metrics, "castore_alerts_total", event="damage") == 1
    assert value(metrics, "castore_task_last_done_timestamp_seconds", task="scrub") > 0


def test_losses_of_events_are_counted(history: InProcess) -> None:
    with castore.open(history.directory) as store:
        with faults.inject("append", after=True):
            store.load("main")
        store.load("main")
    assert value(parsed(history.ok("metrics")), "castore_events_lost_total") == 1


def test_metrics_of_a_store_whose_head_is_lost_are_an_error(history: InProcess) -> None:
    (history.directory / ".castore" / "refs" / "heads" / "main").write_text("0" * 32 + "\n")
    assert json.loads(history.run("metrics", "--json").stdout or "null") is None
    history.refused(9, "metrics")
