from __future__ import annotations

import subprocess
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from castore.errors import RefExistsError, RefNameError
from castore.history import names
from castore.history.names import check_name, check_unique, is_valid_name

PIECES = [*"ab1.-/@{}~^:?*[\\ \t\x7f\x01é", "..", ".lock", "@{", "HEAD", "lock", "x/y", "//", "con", "refs/heads/"]
NAMES = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=30),
)


def git_accepts(name: str) -> bool:
    return subprocess.run(["git", "check-ref-format", "--allow-onelevel", name]).returncode == 0


def stricter_than_git(name: str) -> bool:
    parts = name.split("/")
    return (
        name == "HEAD"
        or name.startswith("-")
        or len(name.encode()) > 255
        or any(len(part.encode()) > names.MAX_COMPONENT_BYTES for part in parts)
        or any(part.split(".")[0].casefold() in DEVICES for part in parts)
        or any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Zs") for char in name)
        or (len(name) in (32, 64) and all(c in "0123456789abcdefABCDEF" for c in name))
    )


DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{d}{n}" for d in ("com", "lpt") for n in "0123456789¹²³"
}


@settings(max_examples=250)
@given(NAMES)
@example("@")
@example("a/.b")
@example("a.lock/b")
@example("a.")
@example("a./b")
@example("/a")
@example("a/")
@example("a@")
@example("a@{b")
@example("@/a")
@example("a\x7f")
@example("a\x80")
@example("a\u200d")
def test_names_follow_the_rules_of_git_and_the_stated_ones_beyond(name: str) -> None:
    assert is_valid_name(name) == (git_accepts(name) and not stricter_than_git(name))


@pytest.mark.parametrize(
    "name", ["main", "exp/lr-3e-4", "v1.0", "größe", "feature/@home", "a" * 200, "deadbeef", "console"]
)
def test_ordinary_names_are_accepted(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "empty"),
        ("HEAD", "reserved"),
        ("@", "reserved"),
        ("-d", "starts with '-'"),
        ("a..b", "'..'"),
        ("a@{1}", "'@{'"),
        ("a b", "' '"),
        ("a\nb", r"'\\n'"),
        ("a\x00b", r"'\\x00'"),
        ("../../etc/passwd", "'..'"),
        ("a//b", "double '/'"),
        (".hidden", "starts with '.'"),
        ("main.lock", "ends with '.lock'"),
        ("main.", "ends with '.'"),
        ("exp/NUL", "device name"),
        ("com1.txt", "device name"),
        ("a" * 201, "longer than 200 bytes"),
        ("a/" * 127 + "aa", "longer than 255 bytes"),
        ("0123456789abcdef" * 2, "reads as a commit id"),
        ("0123456789ABCDEF" * 4, "reads as a commit id"),
        ("a\udc80", "not valid Unicode"),
        ("a\x9bb", "nobody sees"),
        ("a\u202eb", "nobody sees"),
        ("a\u00a0b", "nobody sees"),
    ],
)
def test_a_refused_name_is_told_which_rule_it_breaks(name: str, rule: str) -> None:
    with pytest.raises(RefNameError, match=rule) as caught:
        check_name(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("new", "existing"),
    [
        ("main", "main"),
        ("Main", "main"),
        ("STRASSE", "straße"),
        ("e\u0301", "É"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("A/b", "a"),
    ],
)
def test_names_that_could_be_one_file_or_a_file_and_a_directory_exclude_each_other(new: str, existing: str) -> None:
    with pytest.raises(RefExistsError, match=r"choose another name"):
        check_unique(new, ["other", existing])


def test_names_that_only_begin_alike_live_together() -> None:
    check_unique("a/b", ["a/c", "ab", "a/bc", "b"])
