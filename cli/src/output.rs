//! Results on stdout.

use std::io::{ErrorKind, Write};

/// Prints a text and a line's end. A reader that has gone away, such as `head`, has seen enough:
/// the command then ends without an error.
pub(crate) fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}
