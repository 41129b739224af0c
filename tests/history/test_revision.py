from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from commit_graphs import Commits, make_commit
from hypothesis import given
from hypothesis import strategies as st

from castore import _fs
from castore.errors import AmbiguousRevisionError, CorruptError, RevisionError
from castore.history.reflog import Change
from castore.history.refs import Refs
from castore.history.revision import parse, resolve
from castore.history.revision_syntax import Ancestor, AtStep, Parent, Revision

CHANGE = Change("ada", datetime(2025, 1, 1, tzinfo=timezone.utc), "")


def cid(number: int) -> str:
    return f"{number:04x}" + "f" * 28


# 1 - 2 - 3 - 5(merge of 3, 4) - 6 is main; 4 hangs on 2
COMMITS = [
    make_commit(cid(1), [], 1, step=100),
    make_commit(cid(2), [cid(1)], 2, step=200),
    make_commit(cid(3), [cid(2)], 3, step=300),
    make_commit(cid(4), [cid(2)], 4, step=300),
    make_commit(cid(5), [cid(3), cid(4)], 5),
    make_commit(cid(6), [cid(5)], 6, step=500),
    make_commit("ab" * 16, [], 7),
    make_commit("abab" + "c" * 28, [], 8),
]


@pytest.fixture
def refs(tmp_path: Path) -> Refs:
    refs = Refs(tmp_path, 32, _fs.Lock(tmp_path / "lock", timeout_s=5))
    refs.initialise()
    return refs


@pytest.fixture
def trained(refs: Refs) -> Refs:
    for old, new in ((None, 1), (1, 2), (2, 3), (3, 5), (5, 6)):
        refs.update_branch("main", cid(new), cid(old) if old else None, CHANGE)
    refs.update_branch("exp/lr", cid(4), None, CHANGE)
    refs.create_tag("v1.0", cid(3))
    return refs


def find(text: str, refs: Refs) -> str:
    return resolve(text, refs, Commits(COMMITS), refs.reflog)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (cid(4), 4),
        (cid(4).upper(), 4),
        ("0004", 4),
        ("0004F", 4),
        ("main", 6),
        ("heads/main", 6),
        ("refs/heads/main", 6),
        ("v1.0", 3),
        ("tags/v1.0", 3),
        ("refs/tags/v1.0", 3),
        ("exp/lr", 4),
        ("HEAD", 6),
        ("@", 6),
        ("@~", 5),
        ("main~0", 6),
        ("main~", 5),
        ("main~1", 5),
        ("main~2", 3),
        ("main^", 5),
        ("main^0", 6),
        ("main^^", 3),
        ("main~1^2", 4),
        ("main^^2~1", 2),
        ("main~~~~", 1),
        ("0006~4", 1),
        ("v1.0~1", 2),
        ("main@{0}", 6),
        ("main@{1}", 5),
        ("main@{4}", 1),
        ("refs/heads/main@{2}", 3),
        ("@{1}", 5),
        ("HEAD@{3}", 2),
        ("@@{3}", 2),
        ("main@{1}^2", 4),
        ("main:step=500", 6),
        ("main:step=300", 4),
        ("main^^:step=300", 3),
        ("main:step=300~1", 2),
        ("HEAD:step=100", 1),
    ],
)
def test_revisions_mean_what_they_mean_in_git(trained: Refs, text: str, number: int) -> None:
    assert find(text, trained) == cid(number)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty revision"),
        ("mian", r"unknown revision 'mian'; did you mean main\?"),
        ("v1.1", r"did you mean v1.0\?"),
        ("something", "`castore branch` and `castore tag` list what there is"),
        ("000", "an id prefix needs at least 4 digits"),
        ("dead", "no commit's id starts so"),
        ("e" * 32, "no commit's id starts so"),
        ("e" * 33, "no commit's id starts so"),
        ("main~5", r"main~5: only 4 commits before main; the first commit is main~4"),
        ("v1.0~1~1~1", r"v1.0~1~1 is the first commit, nothing is before it"),
        ("main~999999999", "only 4 commits before main"),
        ("main~9999999999", "cannot read the revision"),
        ("main^2", r"main\^2: main has 1 parent$"),
        ("main~4^", "main~4 has no parents"),
        ("main~1^3", "main~1 has 2 parents$"),
        ("main@{5}", r"the reflog of main has only 4 earlier values"),
        ("exp/lr@{1}", "only 0 earlier values"),
        ("v1.0@{1}", "tags have no reflog"),
        ("0004@{1}", "unknown revision '0004'"),
        ("main:step=400", "no commit of step 400 in the history of main; the nearest are 300 and 500"),
        ("main:step=9", "the nearest is 100"),
        ("ababc:step=9", "none there has a step"),
        ("main@{yesterday}", r"@\{N\} takes a number"),
        ("main~1@{1}", "stands right after a branch"),
        ("main:last", "after ':' only step=N"),
        ("main:step=-1", "after ':' only step=N"),
        ("main^{commit}", "write REV, REV~N"),
        ("~1", "cannot read the revision '~1'"),
        ("main~\uff11", "cannot read"),
        ("a\nb", r"unknown revision 'a\\nb'"),
        ("../../HEAD", "unknown revision"),
        ("refs/heads/../../HEAD", "unknown revision"),
        ("\udc80", "unknown revision"),
        ("main" + "~" * 5000, "a revision of 5004 characters"),
    ],
)
def test_what_names_no_commit_is_answered_with_what_is_there(trained: Refs, text: str, message: str) -> None:
    with pytest.raises(RevisionError, match=message) as caught:
        find(text, trained)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_ambiguous_prefix_lists_the_commits(trained: Refs) -> None:
    with pytest.raises(AmbiguousRevisionError, match=f"{'ab' * 16}, abab{'c' * 28}; write more digits"):
        find("abab", trained)
    assert find("ababa", trained) == "ab" * 16


def test_a_branch_and_a_tag_of_one_name_must_be_told_apart(trained: Refs) -> None:
    trained.create_tag("main", cid(1))
    with pytest.raises(AmbiguousRevisionError, match="write refs/tags/main or refs/heads/main"):
        find("main~1", trained)
    assert find("refs/tags/main", trained) == find("tags/main", trained) == cid(1)
    assert find("heads/main", trained) == find("HEAD", trained) == cid(6)
    assert find("main@{1}", trained) == cid(5)  # tags have no log


def test_a_branch_that_is_called_like_a_spelling_can_be_named_in_full(trained: Refs) -> None:
    trained.update_branch("tags/v1.0", cid(1), None, CHANGE)
    with pytest.raises(AmbiguousRevisionError, match=r"write refs/tags/v1.0 or refs/heads/tags/v1.0"):
        find("tags/v1.0", trained)
    assert find("refs/tags/v1.0", trained) == cid(3)
    assert find("refs/heads/tags/v1.0", trained) == cid(1)


def test_a_ref_wins_over_an_id_prefix(trained: Refs) -> None:
    trained.update_branch("0004", cid(1), None, CHANGE)
    assert find("0004", trained) == cid(1)
    assert find("0004f", trained) == cid(4)


@pytest.mark.parametrize("text", ["HEAD", "@", "main", "HEAD~1", "@{0}", "main:step=1"])
def test_an_empty_store_says_how_to_begin(refs: Refs, text: str) -> None:
    with pytest.raises(RevisionError, match="no commits yet on main; make one with `castore commit`"):
        find(text, refs)


def test_a_deleted_branch_is_found_again_in_the_log_of_head(trained: Refs) -> None:
    trained.delete_branch("main", cid(6))
    assert find("HEAD@{1}", trained) == cid(6)
    assert find("HEAD@{2}", trained) == cid(5)


def test_a_detached_head_has_its_own_log(trained: Refs) -> None:
    trained.set_head(CHANGE, commit=cid(4))
    assert find("HEAD", trained) == find("@{0}", trained) == cid(4)
    assert find("@{1}", trained) == find("main", trained) == cid(6)


def test_a_damaged_ref_is_no_unknown_name(trained: Refs, tmp_path: Path) -> None:
    (tmp_path / "refs/heads/main").write_bytes(b"garbage\n")
    with pytest.raises(CorruptError):
        find("main", trained)
    with pytest.raises(RevisionError, match=r"did you mean main\?"):
        trained.set_head(CHANGE, commit=cid(4))
        find("mainn", trained)


suffixes = st.one_of(
    st.builds(Ancestor, st.integers(0, 10**9 - 1)),
    st.builds(Parent, st.integers(0, 10**9 - 1)),
    st.builds(AtStep, st.integers(0, 10**18 - 1)),
)
revisions = st.builds(
    Revision,
    name=st.sampled_from(["HEAD", "main", "a@b", "exp/lr", "refs/tags/v1", "0123abcd"]),
    reflog=st.none() | st.integers(0, 10**9 - 1),
    suffixes=st.lists(suffixes, max_size=4).map(tuple),
)


@given(revisions)
def test_parsing_undoes_spelling(revision: Revision) -> None:
    assert parse(str(revision)) == revision


@given(st.text(st.sampled_from("am@{}~^:=step0123/HEAD"), max_size=20) | st.text(max_size=20))
def test_any_text_is_a_revision_or_a_clear_error(text: str) -> None:
    try:
        revision = parse(text)
    except RevisionError as error:
        assert str(error).isprintable()
    else:
        assert parse(str(revision)) == revision
