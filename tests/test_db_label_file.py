from pathlib import Path

import pytest

from db.label_file import LabelFile, format_labels, read_label_file
from db.label_policy import Opinion
from db.models import LabelSource, LabelValue
from lungnode.errors import UnusableError

FULL = Opinion(LabelValue.POSITIVE, LabelSource.READER, 'Döe, "J."', "2020-03-01", symptomatic=False)


def read(path: Path, text: str | bytes, **defaults: str) -> LabelFile:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_label_file(path, **defaults)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.csv"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("lead", ["", "sep"])
def test_a_file_is_read_however_a_spreadsheet_wrote_it(
    path: Path, encoding: str, delimiter: str, line_end: str, lead: str
) -> None:
    rows = [
        ["Study Instance UID", "Label", "Source", "Reader", "Date", "Symptomatic"],
        [" 1.2.3 ", "positive", "reader", '"Döe, ""J."""', "2020-03-01", "no"],
        ["", "", "", "", "", ""],
    ]
    lines = [f"sep={delimiter}"] if lead else []
    text = line_end.join([*lines, *(delimiter.join(row) for row in rows)])

    found = read(path, text.encode(encoding))

    (line,) = found.lines
    assert (line.identifiers, line.opinion) == ({"study_instance_uid": "1.2.3"}, FULL)
    assert line.number == 2 + bool(lead)
    assert (found.problems, found.unread) == ((), ())


def test_what_is_written_is_read_again_as_it_was(path: Path) -> None:
    said = [
        ("1.2.3", FULL),
        ("1.2.3", Opinion(LabelValue.UNCERTAIN, LabelSource.RT_PCR)),
        ("1.2.4", Opinion(LabelValue.NEGATIVE, LabelSource.CLINICAL, symptomatic=True)),
    ]

    found = read(path, format_labels(said))

    assert [(line.identifiers["study_instance_uid"], line.opinion) for line in found.lines] == said


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("POS", "positive"), ("1", "positive"), ("COVID", "positive"), ("detected", "positive"),
        ("neg", "negative"), ("0.0", "negative"), ("NonCOVID", "negative"), ("Not detected", "negative"),
        ("equivocal", "uncertain"), ("indeterminate", "uncertain"),
    ],
)  # fmt: skip
def test_common_words_for_a_label_are_understood(path: Path, word: str, value: str) -> None:
    assert read(path, f"patient_id,label\nP1,{word}\n").lines[0].opinion.value == value


def test_source_and_reader_of_the_command_hold_where_a_line_names_none(path: Path) -> None:
    text = "accession,label,source,reader\nA1,1,,\nA2,1,pcr,\nA3,1,,B\n"

    found = read(path, text, source="reader", reader="A")

    assert [(line.opinion.source, line.opinion.reader) for line in found.lines] == [
        ("reader", "A"), ("rt-pcr", "A"), ("reader", "B"),
    ]  # fmt: skip


def test_a_column_that_means_nothing_is_named_and_not_read(path: Path) -> None:
    assert read(path, "patient_id,label,symptomatc\nP1,1,no\n").unread == ("symptomatc",)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("1.2,,,,,,", "label is one of positive, negative, uncertain, got ''"),
        ("1.2,maybe,,,,,", "label is one of positive, negative, uncertain, got 'maybe'"),
        ("1.2,1,rumour,,,,", "source is one of rt-pcr, reader, clinical, import, got 'rumour'"),
        ("1.2,1,reader,,,,", "a reader's label needs the reader's name or code"),
        (f"1.2,1,reader,{'x' * 256},,,", "a reader has at most 255 printable characters, got 'xxx"),
        ("1.2,1,,,31.12.2020,,", "a date is YYYY-MM-DD or YYYYMMDD, got '31.12.2020'"),
        ("1.2,1,,,2020-02-30,,", "a date is YYYY-MM-DD or YYYYMMDD, got '2020-02-30'"),
        ("1.2,1,,,,cough,", "symptomatic is one of symptomatic, asymptomatic, got 'cough'"),
        ("1.2,1,,,,,both", "the column studies says one or all, got 'both'"),
        (",1,,,,,", "no study is named; one of study_instance_uid, accession_number, patient_id is needed"),
        ("1.2,1,,,,,,more", "8 cells are more than the first line's 7"),
    ],
)
def test_a_bad_line_is_named_with_its_rule_and_value_and_the_others_are_read(
    path: Path, row: str, complaint: str
) -> None:
    header = "study_instance_uid,label,source,reader,date,symptomatic,studies"

    found = read(path, f'{header}\n1.1,1,reader,"two\nlines",,,\n{row}\n1.3,0,,,,,\n')

    (problem,) = found.problems
    assert str(problem).startswith(f"Line 4: {complaint}")
    assert [line.number for line in found.lines] == [2, 5]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "need a column label and one of study_instance_uid, .*; the first line has: nothing"),
        (b"label\n1\n", "need a column label and one of"),
        (b"patient_id\n1\n", "need a column label and one of"),
        (b"label,patient_id,Patient ID\n", "have the column patient_id more than once"),
        (b"patient_id,label,reader\nP1,1,D\xf6e\n", r"no UTF-8 text \(byte 30\); save them as CSV UTF-8"),
        (b"PK\x03\x04\x00\x00", "no text: they hold a null character"),
        (b'patient_id,label\nP1,"1\n', "no CSV file: unexpected end of data, at line 2"),
    ],
)
def test_a_file_that_is_no_table_of_labels_is_refused(path: Path, data: bytes, complaint: str) -> None:
    with pytest.raises(UnusableError, match=complaint):
        read(path, data)


def test_a_file_that_is_missing_is_refused(path: Path) -> None:
    with pytest.raises(UnusableError, match=r"labels\.csv cannot be read: No such file"):
        read_label_file(path)
