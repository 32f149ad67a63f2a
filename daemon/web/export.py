"""Results as a table, made piece by piece: a hundred thousand rows take no more memory than a few."""

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine

from db.listings import ResultFilter, every_result
from db.models import Analysis, Study

_TIME: Final = pa.timestamp("ms", tz="UTC")
# Name, type, and where it is read; a column never goes, further ones come at the end.
_OF_STUDY: Final = (
    "study_instance_uid",
    "patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "accession_number",
    "study_date",
    "study_description",
    "calling_ae_title",
    "completeness",
)
_OF_ANALYSIS: Final = {
    "revision": pa.int32(),
    "state": pa.string(),
    "verdict": pa.string(),
    "probability": pa.float64(),
    "threshold": pa.float64(),
    "reason": pa.string(),
    "model": pa.string(),
    "model_digest": pa.string(),
    "runtime": pa.string(),
    "withdrawn": pa.string(),
    "created_at": _TIME,
    "started_at": _TIME,
    "finished_at": _TIME,
}
COLUMNS: Final = (*_OF_STUDY, *_OF_ANALYSIS)
_SCHEMA: Final = pa.schema([*((name, pa.string()) for name in _OF_STUDY), *_OF_ANALYSIS.items()])
# A spreadsheet takes a text that begins so for a formula. Source: OWASP, CSV Injection.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def as_csv(engine: Engine, wanted: ResultFilter) -> Iterator[bytes]:
    """Yield a CSV file in UTF-8, a piece at a time."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for rows in every_result(engine, wanted):
        writer.writerows([_plain(value) for value in _values(row.study, row)] for row in rows)
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


def as_parquet(engine: Engine, wanted: ResultFilter) -> Iterator[bytes]:
    """Yield a Parquet file, a row group a piece."""
    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), _SCHEMA) as writer:
        for rows in every_result(engine, wanted):
            columns = zip(*(_values(row.study, row) for row in rows), strict=True)
            arrays = [
                pa.array(list(column), field.type) for column, field in zip(columns, _SCHEMA, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA))
            yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Takes what a writer writes until it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = bytearray()
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._waiting += data
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        data, self._waiting = bytes(self._waiting), bytearray()
        return data


def _values(study: Study, analysis: Analysis) -> list[Any]:
    own = [getattr(study, name) for name in _OF_STUDY]
    return own + [getattr(analysis, name) for name in _OF_ANALYSIS]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
