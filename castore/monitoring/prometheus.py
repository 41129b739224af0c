"""Metrics, and how Prometheus reads them: the text exposition format, version 0.0.4. Pure.

https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from castore.monitoring.tally import BOUNDS, Times


@dataclass(frozen=True, slots=True)
class Sample:
    """name: the family's, or that with the suffix of a part of a histogram. labels: by name."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Family:
    """A metric. kind: "gauge", "counter" or "histogram"."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def numbers(name: str, kind: str, help: str, label: str, values: Mapping[str, float]) -> Family:
    """A gauge or a counter with one label, "" for none."""
    samples = tuple(Sample(name, {label: text} if label else {}, value) for text, value in values.items())
    return Family(name, kind, help, samples)


def number(name: str, kind: str, help: str, value: float) -> Family:
    """A gauge or a counter without labels."""
    return numbers(name, kind, help, "", {"": value})


def histogram(name: str, help: str, label: str, values: Mapping[str, Times]) -> Family:
    """A histogram in seconds with one label, "" for none."""
    return Family(name, "histogram", help, tuple(one for text in values for one in _parts(name, label, text, values)))


def _parts(name: str, label: str, text: str, values: Mapping[str, Times]) -> Iterator[Sample]:
    labels = {label: text} if label else {}
    total = 0
    for bound, count in zip((*BOUNDS, math.inf), values[text].counts, strict=True):
        total += count
        yield Sample(f"{name}_bucket", {**labels, "le": _value(bound)}, total)
    yield Sample(f"{name}_sum", labels, values[text].seconds)
    yield Sample(f"{name}_count", labels, total)


def exposition(families: Iterable[Family]) -> str:
    """The text that a server of Prometheus scrapes, or node_exporter reads from a file."""
    lines = []
    for family in families:
        if family.samples:
            lines.append(f"# HELP {family.name} {_escaped(family.help)}")
            lines.append(f"# TYPE {family.name} {family.kind}")
            lines += map(_line, family.samples)
    return "\n".join(lines) + "\n"


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_quoted(text)}"' for name, text in sample.labels.items())
    return f"{sample.name}{{{labels}}} {_value(sample.value)}" if labels else f"{sample.name} {_value(sample.value)}"


def _value(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return repr(int(value)) if value == int(value) and abs(value) < 1 << 53 else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    """A label's value, in which a lone surrogate, which UTF-8 lacks, is shown as an escape."""
    return _escaped(text).replace('"', '\\"').encode("utf-8", "backslashreplace").decode()
