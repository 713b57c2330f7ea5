//! A log file as a stream of its uncompressed bytes. Knows no lines.

use super::TailError;
use crate::store::{Store, StoreError};
use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use bytes::Bytes as Chunk;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use std::io;
use std::pin::Pin;
use syncd_parsers::RelPath;
use tokio::io::{AsyncRead, AsyncReadExt};
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
    source: Source,
    /// Of the next byte.
    pub offset: u64,
    /// The compressed data ended before its end: a writer is still at it.
    pub torn: bool,
}

enum Source {
    Plain(Plain),
    Packed(Pin<Box<dyn AsyncRead + Send>>),
}

/// As the store hands it out.
struct Plain {
    chunks: BoxStream<'static, Result<Chunk, StoreError>>,
    /// What is left of the last chunk.
    left: Chunk,
    /// How many bytes are still to come, if the file has kept its length.
    expected: u64,
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
        let raw = |stream: BoxStream<'static, _>| StreamReader::new(stream.map_err(io::Error::other));
        let source = match packing {
            Packing::Plain => {
                let (chunks, expected) = (stream.fuse().boxed(), len.saturating_sub(start));
                Source::Plain(Plain { chunks, left: Chunk::new(), expected })
            }
            Packing::Gzip => {
                let mut decoder = GzipDecoder::new(raw(stream));
                decoder.multiple_members(true);
                Source::Packed(Box::pin(decoder))
            }
            Packing::Zstd => {
                let mut decoder = ZstdDecoder::new(raw(stream));
                decoder.multiple_members(true);
                Source::Packed(Box::pin(decoder))
            }
        };
        Ok(Self { log: path.to_string(), source, offset: start, torn: false })
    }

    /// Appends up to `want` bytes to `buffer`, fewer only at the end of the file.
    pub async fn read(&mut self, buffer: &mut Vec<u8>, want: usize) -> Result<(), TailError> {
        let before = buffer.len();
        let result = self.source.read(buffer, want).await;
        self.offset += (buffer.len() - before) as u64;
        match result {
            Ok(()) => Ok(()),
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

impl Source {
    async fn read(&mut self, buffer: &mut Vec<u8>, want: usize) -> io::Result<()> {
        match self {
            Self::Plain(source) => source.read(buffer, want).await.map_err(io::Error::other),
            Self::Packed(source) => source.take(want as u64).read_to_end(buffer).await.map(|_| ()),
        }
    }
}

impl Plain {
    async fn read(&mut self, buffer: &mut Vec<u8>, mut want: usize) -> Result<(), StoreError> {
        buffer.reserve_exact(usize::try_from(self.expected).unwrap_or(want).min(want));
        while want > 0 {
            if self.left.is_empty() {
                let Some(chunk) = self.chunks.try_next().await? else { break };
                self.left = chunk;
            }
            let part = self.left.split_to(self.left.len().min(want));
            buffer.extend_from_slice(&part);
            want -= part.len();
            self.expected = self.expected.saturating_sub(part.len() as u64);
        }
        Ok(())
    }
}
