//! A window's data on its way to the store: compressed in a temporary file, never as a whole in memory.
//! Every call blocks.

use super::lines::Text;
use crate::store::{Body, Chunk, ErrorKind, Meta, StoreError};
use crate::tail::hex;
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use syncd_parsers::RelPath;
use tokio_util::io::ReaderStream;
use zstd::stream::write::Encoder;

/// Fixed, so that the same changes are the same bytes. The lowest: a change log is written once and read once, and higher
/// ones cost more than they save.
const LEVEL: i32 = 1;

const COPY_BYTES: usize = 1 << 20;

/// A temporary file of zstd frames, which vanishes with its last handle.
pub struct Spool {
    sink: Sink,
}

enum Sink {
    Between(File),
    Frame(Encoder<'static, File>),
    /// An error has cost the file; only the error matters then.
    Broken,
}

/// A place in a spool that can be returned to.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// The data of a window: the frames of `first`, then those of the file.
pub struct Spooled {
    first: Vec<u8>,
    file: File,
    pub bytes: u64,
    pub sha256: String,
}

impl Spool {
    /// In `dir`, or where the system keeps such files.
    pub fn new(dir: Option<PathBuf>) -> io::Result<Self> {
        let file = dir.map_or_else(tempfile::tempfile, tempfile::tempfile_in)?;
        Ok(Self { sink: Sink::Between(file) })
    }

    /// What stands for a spool while that is elsewhere.
    pub fn broken() -> Self {
        Self { sink: Sink::Broken }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut encoder = match self.take() {
            Sink::Frame(encoder) => encoder,
            sink => Encoder::new(sink.end()?, LEVEL)?,
        };
        encoder.write_all(bytes)?;
        self.sink = Sink::Frame(encoder);
        Ok(())
    }

    pub fn write_all(&mut self, texts: Vec<Text>) -> io::Result<()> {
        texts.iter().try_for_each(|text| match text {
            Text::Plain(bytes) => self.write(bytes),
            Text::Frame(frame) => self.write_frame(frame),
        })
    }

    fn write_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut file = self.take().end()?;
        file.write_all(frame)?;
        self.sink = Sink::Between(file);
        Ok(())
    }

    /// Ends the frame, so that what is written from here on can be taken back.
    pub fn mark(&mut self) -> io::Result<Mark> {
        let mut file = self.take().end()?;
        let mark = Mark(file.stream_position()?);
        self.sink = Sink::Between(file);
        Ok(mark)
    }

    /// Takes back what was written since `mark`.
    pub fn roll_back(&mut self, mark: Mark) -> io::Result<()> {
        let mut file = self.take().end()?;
        file.set_len(mark.0)?;
        file.seek(SeekFrom::Start(mark.0))?;
        self.sink = Sink::Between(file);
        Ok(())
    }

    /// Ends the file, which begins with `first` as a frame of its own. There is always a frame, since tools take
    /// nothing at all for a damaged file.
    pub fn finish(mut self, first: &[u8]) -> io::Result<Spooled> {
        let mut file = self.take().end()?;
        let written = file.stream_position()?;
        let first = if written > 0 && first.is_empty() { Vec::new() } else { zstd::encode_all(first, LEVEL)? };
        let sha256 = digest(&first, &mut file)?;
        file.rewind()?;
        Ok(Spooled { bytes: first.len() as u64 + written, first, file, sha256 })
    }

    fn take(&mut self) -> Sink {
        std::mem::replace(&mut self.sink, Sink::Broken)
    }
}

/// Some of the data as a frame of its own.
pub fn frame(bytes: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, LEVEL)
}

impl Sink {
    fn end(self) -> io::Result<File> {
        match self {
            Self::Between(file) => Ok(file),
            Self::Frame(encoder) => encoder.finish(),
            Self::Broken => Err(io::Error::other("used after an error")),
        }
    }
}

impl Spooled {
    /// What a store takes.
    pub fn into_put(self, path: &RelPath) -> (Meta, Body) {
        let path = path.clone();
        let file = ReaderStream::with_capacity(tokio::fs::File::from_std(self.file), COPY_BYTES)
            .map_err(move |error| StoreError::new("read temporary file for", &path, ErrorKind::Other).because(error));
        let first = futures::stream::iter([Ok(self.first.into())]);
        (Meta::file(self.bytes), Body::Stream(first.chain(file).map_ok(Chunk::Data).boxed()))
    }
}

fn digest(first: &[u8], file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(first);
    file.rewind()?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            len => hash.update(&buffer[..len]),
        }
    }
}
