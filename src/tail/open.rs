//! A log file as a stream of its uncompressed bytes. Knows no lines.

use super::TailError;
use crate::store::{Store, StoreError};
use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use futures::TryStreamExt;
use std::io;
use std::pin::Pin;
use syncd_parsers::RelPath;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio_util::io::StreamReader;

/// How a log file is packed, which its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// The bytes of a log file, and how far they were read.
pub struct Bytes {
    log: String,
    source: Pin<Box<dyn AsyncRead + Send>>,
    /// Of the next byte.
    pub offset: u64,
    /// The compressed data ended before its end: a writer is still at it.
    pub torn: bool,
}

impl Packing {
    pub fn of(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "gz")) => Self::Gzip,
            Some((_, "zst")) => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

impl Bytes {
    /// Opens a file of `len` bytes in the store. A plain one is read from `offset` on, a compressed one from
    /// its beginning, since nothing else is possible.
    pub async fn open(
        logs: &dyn Store,
        path: &RelPath,
        packing: Packing,
        offset: u64,
        len: u64,
    ) -> Result<Self, StoreError> {
        let start = if packing == Packing::Plain { offset } else { 0 };
        let stream = logs.read_range(path, start, len.saturating_sub(start)).await?;
        let raw = StreamReader::new(stream.map_err(io::Error::other));
        let source: Pin<Box<dyn AsyncRead + Send>> = match packing {
            Packing::Plain => Box::pin(raw),
            Packing::Gzip => {
                let mut decoder = GzipDecoder::new(BufReader::new(raw));
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            Packing::Zstd => {
                let mut decoder = ZstdDecoder::new(BufReader::new(raw));
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        };
        Ok(Self { log: path.to_string(), source, offset: start, torn: false })
    }

    /// Appends up to `want` bytes to `buffer`, fewer only at the end of the file.
    pub async fn read(&mut self, buffer: &mut Vec<u8>, want: usize) -> Result<(), TailError> {
        let before = buffer.len();
        let result = (&mut self.source).take(want as u64).read_to_end(buffer).await;
        self.offset += (buffer.len() - before) as u64;
        match result {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.torn = true;
                Ok(())
            }
            Err(error) => Err(self.cause(error)),
        }
    }

    /// A store's error keeps its own words; what else goes wrong is the compressed data's fault.
    fn cause(&self, error: io::Error) -> TailError {
        match error.downcast::<StoreError>() {
            Ok(error) => TailError::Store(error),
            Err(cause) => TailError::Damaged { log: self.log.clone(), offset: self.offset, cause },
        }
    }
}
