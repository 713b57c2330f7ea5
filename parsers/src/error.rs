//! `ParseError`: what was expected and where in the line; which file it was is not known here.

/// A record that is not of its dialect. Prints what was expected and at which column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}")]
pub struct ParseError {
    /// Bytes from the start of the record.
    pub column: usize,
    pub expected: &'static str,
}
