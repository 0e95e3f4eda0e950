//! The tables of the data model: where they live, their columns, and one module each that makes their rows.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

pub(crate) mod clicks;
pub(crate) mod performances;
pub(crate) mod users;
pub(crate) mod web_logs;

/// A table of the lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// What visitors did to performances, by date.
    TicketClicks,
    /// The web site's access log, by date.
    WebLogs,
    /// The users, a dimension.
    Users,
    /// The performances, a dimension.
    Performances,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 4] = [
        Self::TicketClicks,
        Self::WebLogs,
        Self::Users,
        Self::Performances,
    ];

    /// Its folder, relative to the lake.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::TicketClicks => "stage/ticket_clicks",
            Self::WebLogs => "stage/web_logs",
            Self::Users => "dim/users",
            Self::Performances => "dim/performances",
        }
    }

    /// Its columns, as a reader of the files sees them. The partition column `date` is in the folders' names only.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let text = || DataType::Utf8;
        let columns = match self {
            Self::TicketClicks => vec![
                required("click_id", DataType::Int64),
                required("clicked_at", time()),
                nullable("user_id", DataType::Int64),
                required("session_id", DataType::Int64),
                nullable("performance_id", DataType::Int32),
                required("action", text()),
                required("platform", text()),
                required("device", text()),
            ],
            Self::WebLogs => vec![
                required("request_id", DataType::Int64),
                required("requested_at", time()),
                required("client_ip", text()),
                nullable("user_id", DataType::Int64),
                required("session_id", DataType::Int64),
                required("method", text()),
                required("path", text()),
                required("status", DataType::Int16),
                required("bytes", DataType::Int64),
                required("latency_ms", DataType::Int32),
                nullable("referrer", text()),
                required("user_agent", text()),
            ],
            Self::Users => vec![
                required("user_id", DataType::Int64),
                nullable("birth_date", DataType::Date32),
                nullable("gender", text()),
                required("region", text()),
                required("signed_up_on", DataType::Date32),
            ],
            Self::Performances => vec![
                required("performance_id", DataType::Int32),
                required("title", text()),
                required("genre", text()),
                required("venue", text()),
                required("region", text()),
                required("opens_on", DataType::Date32),
                required("closes_on", DataType::Date32),
                required("price_krw", DataType::Int32),
            ],
        };
        Arc::new(Schema::new(columns))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

fn required(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, false)
}

fn nullable(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

/// The texts of weighted choices.
fn names<T>(choices: &[(&str, T)]) -> Arc<Vec<String>> {
    Arc::new(choices.iter().map(|choice| choice.0.to_owned()).collect())
}
