"""Which names are checkpoints, and in which order they were made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import UsageError
from castore.operations.checkpoint_order import Entry, Plan, plan


def planned(*names: str, pattern: str | None = None, same: bool = False) -> Plan:
    """The plan for these names; a directory's ends with "/", "a -> b" is a symlink."""
    entries = []
    for text in names:
        name, _, link = text.partition(" -> ")
        entries.append(Entry(name.rstrip("/"), "directory" if name.endswith("/") else "file", link))
    return plan(entries, pattern, lambda _one, _other: same)


def order(*names: str, pattern: str | None = None) -> list[tuple[str, int]]:
    return [(one.name, one.number) for one in planned(*names, pattern=pattern).checkpoints]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step_100.pt", 100),
        ("step-00200/", 200),
        ("step300.pth", 300),
        ("Step=900.safetensors", 900),
        ("model-step=900.safetensors", 900),
        ("epoch=3-step=900.ckpt", 900),
        ("epoch3_step900-val_loss=0.25.ckpt", 900),
        ("global_step1000/", 1000),
        ("globalstep7/", 7),
        ("iter_0001000/", 1000),
        ("model_iteration-50.bin", 50),
        ("llama-7b-step-10.pt", 10),
        ("10k_steps.pt", 10_000),
        ("step_2m.pt", 2_000_000),
        ("1200-steps.pt", 1200),
        ("ckpt_epoch_12.pth", 12),
        ("epoch=07.ckpt", 7),
        ("checkpoint-500/", 500),
        ("00500/", 500),
        ("model_3.pt", 3),
        ("timestep_5.pt", 5),
    ],
)
def test_the_number_that_counts(name: str, step: int) -> None:
    assert order(name) == [(name.rstrip("/"), step)]


@given(steps=st.lists(st.integers(0, 10**12), min_size=1, max_size=20, unique=True), form=st.integers(0, 4))
def test_the_order_is_that_of_the_numbers_not_of_the_names(steps: list[int], form: int) -> None:
    form_of = ("step_{}.pt", "checkpoint-{}/", "epoch=1-step={:09}.ckpt", "epoch_{}.bin", "llama-7b-{}.safetensors")[
        form
    ]
    if form == 4 and len(steps) == 1:
        return  # 7 and the step: nothing says which
    names = [form_of.format(step) for step in steps]
    assert [number for _, number in order(*names)] == sorted(steps)


def test_an_epoch_in_the_name_is_kept_beside_the_step() -> None:
    assert [one.epoch for one in planned("epoch=3-step=900.ckpt", "step=950.ckpt").checkpoints] == [3, None]


def test_what_is_left_out_is_named_with_the_reason() -> None:
    found = planned(
        *("step_1.pt", "step_2.pt", "last.ckpt -> step_2.pt", "best.ckpt", "train.log", "epoch_4.pt", "wandb/"),
        *(".castore/", ".step_3.pt", "step_9-00001-of-00002.safetensors"),
    )
    assert [one.name for one in found.checkpoints] == ["step_1.pt", "step_2.pt"]
    assert dict(found.left_out) == {
        ".castore": "a store",
        ".step_3.pt": "hidden",
        "best.ckpt": "its name has no step, which the others are ordered by",
        "epoch_4.pt": "its name has no step, which the others are ordered by",
        "last.ckpt": "a symlink to step_2.pt",
        "step_9-00001-of-00002.safetensors": "a part of a checkpoint",
        "train.log": "no checkpoint by its ending",
        "wandb": "its name has no step, which the others are ordered by",
    }


def test_a_number_alone_makes_a_directory_no_checkpoint() -> None:
    found = planned("checkpoint-500/", "version_0/", "last-v1.ckpt", "model-00001-of-00002.safetensors")
    assert [one.name for one in found.checkpoints] == ["checkpoint-500"]
    assert dict(found.left_out)["version_0"] == "no checkpoint by its name"
    assert dict(found.left_out)["last-v1.ckpt"] == "its name has no step, epoch or number"


def test_a_symlink_to_elsewhere_is_a_checkpoint() -> None:
    assert order("step_1.pt -> elsewhere.pt") == [("step_1.pt", 1)]


def test_of_two_with_one_step_the_alias_or_the_copy_is_left_out_and_else_both_are_refused() -> None:
    alias = planned("best-step=900.ckpt", "epoch=3-step=900.ckpt")
    assert [one.name for one in alias.checkpoints] == ["epoch=3-step=900.ckpt"]
    assert dict(alias.left_out) == {"best-step=900.ckpt": "of step 900 too, as epoch=3-step=900.ckpt"}
    copy = planned("a_step_5.pt", "b_step_5.pt", same=True)
    assert dict(copy.left_out) == {"b_step_5.pt": "the same bytes as a_step_5.pt"}
    with pytest.raises(UsageError, match=r"'model_step5.pt' and 'optim_step5.pt' are both of step 5.*--pattern"):
        planned("model_step5.pt", "optim_step5.pt", "model_step6.pt")
    assert order("model_step5.pt", "optim_step5.pt", pattern="model_*") == [("model_step5.pt", 5)]


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["run-7-500.pt"], "'run-7-500.pt' has several numbers"),
        (["run-7-500.pt", "run-8-600.pt"], "several numbers"),
        (["step_1-step_2.pt"], "more than one step: 1 and 2"),
        ([f"step_{1 << 63}.pt"], "too large"),
    ],
)
def test_what_is_ambiguous_is_refused_by_name_with_what_to_do(names: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        planned(*names)
    assert "{step}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_pattern_chooses_and_says_which_number_counts() -> None:
    names = ("run-7-500.pt", "run-7-1000.pt", "other.pt")
    assert order(*names, pattern="run-*-{step}.pt") == [("run-7-500.pt", 500), ("run-7-1000.pt", 1000)]
    found = planned("a1b2.weights", pattern="a*b{epoch}.weights")  # any ending: the pattern says that it is one
    assert (found.by, found.checkpoints[0].number, found.checkpoints[0].epoch) == ("epoch", 2, 2)
    assert dict(planned(*names, pattern="run-*-{step}.pt").left_out) == {"other.pt": "does not match the pattern"}
    with pytest.raises(UsageError, match="once"):
        planned(*names, pattern="{step}-{step}.pt")
