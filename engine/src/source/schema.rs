//! One schema for all files of a source.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use super::Format;
use crate::error::{Error, Result};

/// Merges the schemas of a source's files, given as (file for messages, schema). A column that
/// a file lacks reads as null there. Types must agree, but for the ways to store a text, and
/// for what was only guessed from text: integers among floats are floats, and in CSV anything
/// else that disagrees is text.
pub(super) fn merge(files: &[(String, SchemaRef)], format: Format) -> Result<SchemaRef> {
    let mut merged: Vec<(FieldRef, &str)> = Vec::new();
    for (file, schema) in files {
        for field in schema.fields() {
            let field = &plain_text(field);
            match merged.iter_mut().find(|(f, _)| f.name() == field.name()) {
                None => merged.push((Arc::clone(field), file)),
                Some((known, known_file)) => {
                    let Some(data_type) = agree(known.data_type(), field.data_type(), format)
                    else {
                        return Err(Error::SchemaConflict {
                            column: field.name().clone(),
                            first: (*known_file).to_owned(),
                            first_type: known.data_type().to_string(),
                            second: file.clone(),
                            second_type: field.data_type().to_string(),
                        });
                    };
                    let nullable = known.is_nullable() || field.is_nullable();
                    *known = Arc::new(Field::new(field.name(), data_type, nullable));
                }
            }
        }
    }
    let fields: Vec<Field> = merged
        .into_iter()
        .map(|(field, _)| {
            let everywhere = files
                .iter()
                .all(|(_, schema)| schema.field_with_name(field.name()).is_ok());
            let nullable = field.is_nullable() || !everywhere;
            Field::new(field.name(), field.data_type().clone(), nullable)
        })
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// A dictionary of texts as texts: the numbers of several files' texts may not fit its index type.
fn plain_text(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Dictionary(_, values) if is_text(values) => {
            let plain = Field::new(field.name(), DataType::Utf8View, field.is_nullable());
            Arc::new(plain)
        }
        _ => Arc::clone(field),
    }
}

fn agree(a: &DataType, b: &DataType, format: Format) -> Option<DataType> {
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        (a, b) if is_text(a) && is_text(b) => Some(DataType::Utf8View),
        _ => match format {
            Format::Parquet => None,
            _ if a.is_numeric() && b.is_numeric() => Some(DataType::Float64),
            Format::Csv { .. } => Some(DataType::Utf8),
            Format::Json => None,
        },
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, columns: &[(&str, DataType, bool)]) -> (String, SchemaRef) {
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable))
            .collect();
        (name.into(), Arc::new(Schema::new(fields)))
    }

    #[test]
    fn a_missing_column_becomes_nullable() {
        let files = [
            file("a", &[("id", DataType::Int64, false)]),
            file(
                "b",
                &[
                    ("id", DataType::Int64, false),
                    ("device", DataType::Utf8, false),
                ],
            ),
            file(
                "c",
                &[
                    ("device", DataType::LargeUtf8, false),
                    ("id", DataType::Int64, false),
                ],
            ),
        ];
        let merged = merge(&files, Format::Parquet).unwrap();
        assert_eq!(*merged.field(0), Field::new("id", DataType::Int64, false));
        assert_eq!(
            *merged.field(1),
            Field::new("device", DataType::Utf8View, true)
        );
    }

    #[test]
    fn a_conflict_names_both_files() {
        let files = [
            file("a.parquet", &[("id", DataType::Int64, false)]),
            file("b.parquet", &[("id", DataType::Utf8, false)]),
        ];
        let error = merge(&files, Format::Parquet).unwrap_err().to_string();
        for word in ["'id'", "a.parquet", "b.parquet", "Int64", "Utf8"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn guessed_types_give_way() {
        let csv = Format::Csv {
            delimiter: b',',
            header: true,
        };
        let files = [
            file(
                "a",
                &[("x", DataType::Int64, true), ("y", DataType::Int64, true)],
            ),
            file(
                "b",
                &[("x", DataType::Float64, true), ("y", DataType::Utf8, true)],
            ),
        ];
        let merged = merge(&files, csv).unwrap();
        assert_eq!(merged.field(0).data_type(), &DataType::Float64);
        assert_eq!(merged.field(1).data_type(), &DataType::Utf8);
        assert!(merge(&files, Format::Json).is_err());
    }
}
