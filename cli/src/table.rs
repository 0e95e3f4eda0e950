//! Record batches as tables and JSON.

use anyhow::Context;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::arrow::json::writer::{JsonArray, WriterBuilder};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// Rows as a table for people.
pub(crate) fn render(rows: &RecordBatch) -> anyhow::Result<String> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let schema = rows.schema();
    table.set_header(schema.fields().iter().map(|field| field.name()));
    let columns = rows
        .columns()
        .iter()
        .map(cells)
        .collect::<anyhow::Result<Vec<_>>>()?;
    for row in 0..rows.num_rows() {
        let cells = columns.iter().zip(rows.columns()).map(|(texts, column)| {
            let cell = Cell::new(&texts[row]);
            match column.data_type().is_numeric() {
                true => cell.set_alignment(CellAlignment::Right),
                false => cell,
            }
        });
        table.add_row(cells);
    }
    Ok(table.to_string())
}

/// Texts as a table for people.
pub(crate) fn of_texts(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(columns);
    table.add_rows(rows);
    table.to_string()
}

fn cells(column: &ArrayRef) -> anyhow::Result<Vec<String>> {
    let options = FormatOptions::default().with_null("-");
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let cell = |row: usize| {
        if column.is_null(row) {
            return "-".to_owned();
        }
        match column.data_type() {
            DataType::Float64 => {
                let text = format!("{:.4}", column.as_primitive::<Float64Type>().value(row));
                let short = text.trim_end_matches('0').trim_end_matches('.');
                short.to_owned()
            }
            _ => formatter.value(row).to_string(),
        }
    };
    Ok((0..column.len()).map(cell).collect())
}

/// Rows as JSON values, one object each, nulls written out as in a published ranking.json.
pub(crate) fn to_json(rows: &RecordBatch) -> anyhow::Result<serde_json::Value> {
    if rows.num_rows() == 0 {
        return Ok(serde_json::Value::Array(Vec::new()));
    }
    let mut bytes = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(true);
    let mut writer = builder.build::<_, JsonArray>(&mut bytes);
    writer.write(rows)?;
    writer.finish()?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The first `show` ranks of each ranking; of a result without ranks, the first rows.
pub(crate) fn top(rows: &RecordBatch, show: usize) -> anyhow::Result<RecordBatch> {
    match rows.column_by_name("rank") {
        Some(ranks) if ranks.data_type() == &DataType::Int64 => {
            let ranks = ranks.as_primitive::<Int64Type>();
            let kept: BooleanArray = ranks
                .iter()
                .map(|rank| Some(rank.is_some_and(|rank| rank <= show as i64)))
                .collect();
            Ok(filter_record_batch(rows, &kept)?)
        }
        _ => Ok(rows.slice(0, show.min(rows.num_rows()))),
    }
}

/// The rows whose columns have the given values, as texts.
pub(crate) fn filtered(
    rows: RecordBatch,
    filters: &[(String, String)],
) -> anyhow::Result<RecordBatch> {
    let mut rows = rows;
    for (name, value) in filters {
        let names = || {
            let schema = rows.schema();
            let names: Vec<_> = schema.fields().iter().map(|f| f.name().clone()).collect();
            names.join(", ")
        };
        let column = rows
            .column_by_name(name)
            .with_context(|| format!("there is no column '{name}'; columns: {}", names()))?;
        let options = FormatOptions::default();
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
        let kept: BooleanArray = (0..column.len())
            .map(|row| Some(column.is_valid(row) && formatter.value(row).to_string() == *value))
            .collect();
        drop(formatter);
        rows = filter_record_batch(&rows, &kept)?;
    }
    Ok(rows)
}
