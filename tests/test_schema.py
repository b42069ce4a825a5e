"""The contract of every table: what breaks it is named."""

import pyarrow as pa
import pytest
from conftest import blank

from vidrnn import columns, results
from vidrnn.columns import describe
from vidrnn.errors import SchemaError
from vidrnn.schema import SCHEMAS, cells_schema, scores_schema, validate

TABULAR = sorted(name for name in SCHEMAS if name != "shots")


def table(name: str) -> pa.Table:
    return pa.Table.from_pylist([blank(name), blank(name)], schema=SCHEMAS[name])


@pytest.mark.parametrize("name", TABULAR)
def test_a_table_that_keeps_its_contract_is_returned(name: str) -> None:
    good = table(name)
    assert validate(good, SCHEMAS[name], name) is good
    assert validate(good.replace_schema_metadata({"a": "b"}), SCHEMAS[name], name).num_rows == 2
    assert validate(SCHEMAS[name].empty_table(), SCHEMAS[name], name).num_rows == 0


@pytest.mark.parametrize("name", TABULAR)
def test_missing_added_and_moved_columns_are_refused(name: str) -> None:
    good = table(name)
    moved = good.select([*good.schema.names[1:], good.schema.names[0]])
    for bad in (good.drop_columns([good.schema.names[0]]), good.append_column("extra", [[1, 2]]), moved):
        with pytest.raises(SchemaError, match=f"^the table: expected the columns .*{good.schema.names[0]}.*, found"):
            validate(bad, SCHEMAS[name], "the table")


@pytest.mark.parametrize("name", TABULAR)
def test_another_type_or_a_null_names_its_column(name: str) -> None:
    good = table(name)
    for index, field in enumerate(SCHEMAS[name]):
        other = pa.array([b"", b""], pa.binary())
        with pytest.raises(SchemaError, match=f"column {field.name} should be .*, found binary"):
            validate(good.set_column(index, field.name, other), SCHEMAS[name], name)
        nulls = good.set_column(index, field.name, pa.nulls(2, field.type))
        if field.nullable:
            validate(nulls, SCHEMAS[name], name)
        else:
            with pytest.raises(SchemaError, match=f"column {field.name} holds a null where none is allowed"):
                validate(nulls, SCHEMAS[name], name)


def test_a_grid_of_another_size_is_another_type() -> None:
    for make in (lambda columns: cells_schema(3, 20, columns), lambda columns: scores_schema(20, columns)):
        with pytest.raises(SchemaError, match=r"column cells should be .*36.*, found .*27"):
            validate(make(27).empty_table(), make(36), "cells")


def test_every_table_says_what_it_is_of() -> None:
    per_video = {"regions", "shots", "views", "windows"}
    assert per_video < set(SCHEMAS)
    for name, schema in SCHEMAS.items():
        assert len(set(schema.names)) == len(schema.names)
        assert name in per_video or schema.names[0] == "camera_id"
        assert all(field.type.tz == "UTC" for field in schema if pa.types.is_timestamp(field.type))


def test_every_column_of_every_table_says_what_it_means():
    for table in results.TABLES:
        assert all(describe(table, column) for column in SCHEMAS[table].names)
        assert set(columns._OWN.get(table, {})) <= set(SCHEMAS[table].names)
    assert set(columns._OWN) == set(results.TABLES)
    assert all(any(name in SCHEMAS[table].names for table in results.TABLES) for name in columns._COMMON)
