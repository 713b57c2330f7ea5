//! `ParseError`: what was expected and where in the record; which file it was is not known here.

/// A record that is not of its dialect. Prints what was expected and at which column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}")]
pub struct ParseError {
    /// Bytes from the start of the record.
    pub column: usize,
    pub expected: &'static str,
    pub kind: ParseErrorKind,
}

/// Whether more lines could mend a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// Begins well and ends too early: a name with a newline in it may have broken the line.
    Incomplete,
    /// No line that follows can make a record of it.
    Malformed,
}

impl ParseError {
    #[must_use]
    pub fn incomplete(column: usize, expected: &'static str) -> Self {
        Self { column, expected, kind: ParseErrorKind::Incomplete }
    }

    #[must_use]
    pub fn malformed(column: usize, expected: &'static str) -> Self {
        Self { column, expected, kind: ParseErrorKind::Malformed }
    }
}
