import uuid

from lungnode.identifiers import derive_uid, to_uid


def test_a_uuid_becomes_the_uid_that_the_standard_s_example_shows() -> None:
    # Source: PS3.5 B.2.
    value = uuid.UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")

    assert to_uid(value) == "2.25.329800735698586629295641978511506172918"


def test_the_same_parts_give_the_same_uid_and_others_another() -> None:
    assert derive_uid("a", 1) == derive_uid("a", 1)
    assert len({derive_uid("a", 1), derive_uid("a", 2), derive_uid("b", 1), derive_uid("a1")}) == 4


def test_where_one_part_ends_matters() -> None:
    assert derive_uid("ab", "c") != derive_uid("a", "bc")
    assert derive_uid("a\x001:b") != derive_uid("a", "b")


def test_uids_are_valid() -> None:
    assert all(derive_uid("x", number).is_valid for number in range(100))
