"""`castore card`: a page that a person can read and a machine can render, whatever texts are in the store."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import castore
from castore.operations.chart import HEIGHT, WIDTH, chart
from tests.cli.shell import InProcess


def section(page: str, name: str) -> str:
    return page.split(f"## {name}\n")[1].split("\n## ")[0]


def test_a_page_says_what_it_is_for_where_it_comes_from_and_how_to_get_it(history: InProcess) -> None:
    (history.directory / "caveats.md").write_text("Never on *Sundays*.\n")
    page = history.ok("card", "main", "--intended-use", "News.", "--caveats", "@caveats.md")
    names = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert names == [
        *("Intended use", "Caveats", "Lineage", "Metrics", "Contents", "Environment", "How to restore"),
    ]
    assert page.startswith("# commit 3\n")
    commit = history.json("show", "main")
    assert commit["id"] in page and "branch main" in page and "| run | a |" in page
    assert section(page, "Intended use").strip() == "News."
    assert section(page, "Caveats").strip() == "Never on *Sundays*."
    assert "3 commits lead to it" in section(page, "Lineage") and "tag v1.0" in section(page, "Lineage")
    assert "| loss | 0.333333 | 0.333333 (step 3) | 1 (step 1) |" in section(page, "Metrics")
    assert section(page, "Metrics").count("*") == 3
    assert "| model |" in section(page, "Contents")
    assert commit["environment"]["python"] in section(page, "Environment")
    assert f"checkout {commit['id'][:12]}" in section(page, "How to restore")
    assert history.json("card", "main")["markdown"].count("Not given.") == 2


def test_notes_of_the_commit_are_the_default(store: InProcess, write_checkpoint: Callable[..., Path]) -> None:
    store.ok("commit", write_checkpoint(), "--meta", "intended-use=Toys.", "--meta", "caveats=Small.")
    page = store.ok("card")
    assert section(page, "Intended use").strip() == "Toys."
    assert section(page, "Caveats").strip() == "Small."
    assert "None recorded." in section(page, "Metrics")


def test_configuration_and_data_are_on_it(store: InProcess, write_checkpoint: Callable[..., Path]) -> None:
    (store.directory / "config.toml").write_text('lr = 0.1\n[model]\nwidth = 8\napi_key = "abcdefghi"\n')
    (store.directory / "manifest.txt").write_text("a.bin\n")
    store.ok("commit", write_checkpoint(), "--config", "config.toml", "--data", "manifest.txt")
    page = store.ok("card")
    assert "| model.width | 8 |" in page and "blake3" in page and "abcdefghi" not in page
    made = store.json("show", "--env")["provenance"]
    assert made["config"] == {"lr": "0.1", "model.width": "8", "model.api_key": "***"}
    assert "manifest.txt" in store.ok("show", "--env")
    store.ok("commit", "model.pt", "--config", "config.toml", "--data", "v2")
    text = store.ok("diff", "main~1", "main", "--env")
    assert "*  data blake3" in text and "   data manifest" in text and "2 of which can change results" in text
    assert [one["matters"] for one in store.json("diff", "main", "main~1", "--env") if one["name"] == "version"] == [
        True
    ]


def test_a_configuration_that_can_not_be_read_is_refused(
    store: InProcess, write_checkpoint: Callable[..., Path]
) -> None:
    write_checkpoint()
    for name, text in (("a.toml", "a = = 1"), ("a.json", "[1]"), ("b.json", "{"), ("c.json", '{"a": ' * 5000)):
        (store.directory / name).write_text(text)
        assert name in store.refused(2, "commit", "model.pt", "--config", name)
    assert "is a directory" in store.refused(2, "commit", "model.pt", "--data", ".")


def test_a_dropped_commit_has_a_page_too(history: InProcess) -> None:
    history.ok("prune", "--keep-last", "1", "--gc")
    page = history.ok("card", "main~2")
    assert "| State | dropped on " in page and "--keep-last 1" in page
    assert "Its state was dropped" in section(page, "How to restore")


def test_texts_of_a_store_are_shown_and_not_rendered(store: InProcess, write_checkpoint: Callable[..., Path]) -> None:
    evil = "a|b <script>`x`</script> [l](http://h) _u_ *v*\n# h"
    store.ok("commit", write_checkpoint(), "-m", evil, "--meta", f"k={evil}", "--author", evil)
    page = store.ok("card")
    assert "<script>" not in page and "[l](" not in page
    assert "\\|b" in page and not any(line.startswith("# h") for line in page.splitlines())


def test_a_file_is_not_overwritten_without_being_told_to(history: InProcess) -> None:
    assert history.ok("card", "main", "-o", "CARD.md") == ""
    before = (history.directory / "CARD.md").read_text()
    assert before == history.ok("card", "main")
    assert "CARD.md" in history.refused(10, "card", "main~1", "-o", "CARD.md")
    assert (history.directory / "CARD.md").read_text() == before
    history.ok("card", "main~1", "-o", "CARD.md", "--force")
    assert (history.directory / "CARD.md").read_text() != before


def test_a_metric_that_no_commit_has_is_an_error(history: InProcess) -> None:
    assert "no commit up to" in history.refused(2, "card", "--metric", "accuracy")
    assert "loss by step:" in history.ok("card", "--metric", "loss")


def test_a_page_of_a_run(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        for step in range(40):
            store.commit({}, step=step, metrics={"loss": 1 / (1 + step), "gone": math.nan})
        store.commit({}, step=40, metrics={"loss": 0.01}, meta={"resumed-from": store.resolve("main~5")})
        page = store.card()
        assert f"resumed from `{store.resolve('main~6')[:12]}`" in page
        assert page.count("by step:") == 1 and "```text" in page


POINTS = st.lists(st.tuples(st.integers(0, 10**6), st.floats()), max_size=80)


@given(POINTS)
def test_a_chart_is_of_one_size_whatever_it_draws(points: list[tuple[int, float]]) -> None:
    lines = chart(points)
    steps = {step for step, value in points if math.isfinite(value)}
    if len(steps) < 2:
        assert lines == []
        return
    margin = lines[0].index("|")
    assert len(lines) == HEIGHT + 2
    assert all(len(line) <= margin + 1 + WIDTH for line in lines)
    assert 1 <= sum(line.count("*") for line in lines) <= WIDTH
    assert lines[-1].split() == [str(min(steps)), str(max(steps))]
