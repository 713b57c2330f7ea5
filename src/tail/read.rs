//! One log file, from where reading it ended to its end, in blocks. Proves that what it hands out is of the
//! file that was expected; how much of the last lines can be used is its caller's to say.

use super::open::{Bytes, Packing};
use super::survey::{LogFile, shorter};
use super::{BLOCK_BYTES, Gap, HEAD_BYTES, TailError, gone};
use crate::store::Store;

/// A part of one file. It begins where a line begins; unless it is the last of its file, it ends somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Of the first byte, in the uncompressed file.
    pub offset: u64,
    pub bytes: Vec<u8>,
    pub follows: Follows,
}

/// What comes after a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// More of the file.
    More,
    /// Nothing for now, but the file may grow.
    Growth,
    /// Nothing: the file grows no more, and its last line may lack the newline.
    Nothing,
}

/// What one step of reading gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Block(Block),
    End {
        /// The compressed data ended before its end, as it does while it is being written.
        torn: bool,
    },
    /// The name belongs to another file by now: what was handed out so far is not to be trusted, and the
    /// file is read in the next pass.
    Rotated,
    /// The file holds less than what was read of it before.
    Lost(Gap),
}

/// Reads one log file.
pub struct Reader<'a> {
    logs: &'a dyn Store,
    file: &'a LogFile,
    block_bytes: usize,
    state: State,
}

enum State {
    Start,
    Reading {
        source: Bytes,
        buffer: Vec<u8>,
        /// How many bytes at the end of the buffer were read ahead.
        ahead: usize,
        /// The buffer of a block that was used, for another one: fresh memory is cleared first.
        spare: Vec<u8>,
    },
    Done(Step),
}

impl<'a> Reader<'a> {
    #[must_use]
    pub fn new(logs: &'a dyn Store, file: &'a LogFile, block_bytes: usize) -> Self {
        Self { logs, file, block_bytes, state: State::Start }
    }

    /// The next block, or how reading ended; after that the same again. Before the last block is
    /// handed out, the file was found to be the expected one still.
    ///
    /// # Errors
    ///
    /// The store cannot read it, or its compressed data is damaged.
    pub async fn next(&mut self) -> Result<Step, TailError> {
        if matches!(self.state, State::Start) {
            self.state = self.open().await?;
        }
        match self.state {
            State::Done(_) => Ok(self.ended()),
            _ => self.read().await,
        }
    }

    async fn open(&self) -> Result<State, TailError> {
        let file = self.file;
        let done = |step| Ok(State::Done(step));
        let Some(meta) = self.logs.lookup(&file.path).await? else { return done(Step::Rotated) };
        if file.packing == Packing::Plain && meta.len < file.offset() {
            let step = if self.is_same().await? { self.short(meta.len, false) } else { Step::Rotated };
            return done(step);
        }
        let opened = Bytes::open(self.logs, &file.path, file.packing, file.resume(), meta.len).await;
        let Some(mut source) = gone(opened)? else { return done(Step::Rotated) };
        if file.packing != Packing::Plain {
            let mut head = Vec::new();
            source.read(&mut head, HEAD_BYTES).await?;
            if !file.fingerprint.fits(&head) {
                return done(Step::Rotated);
            }
            return self.skip(source, head).await;
        }
        Ok(State::Reading { source, buffer: Vec::new(), ahead: 0, spare: Vec::new() })
    }

    /// Leaves out what was read before.
    async fn skip(&self, mut source: Bytes, mut buffer: Vec<u8>) -> Result<State, TailError> {
        let resume = self.file.resume();
        while source.offset < resume {
            let want = usize::try_from(resume - source.offset).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            buffer.clear();
            source.read(&mut buffer, want).await?;
            if buffer.is_empty() {
                return Ok(State::Done(self.short(source.offset, source.torn)));
            }
        }
        let unread = usize::try_from(source.offset - resume).unwrap_or(0).min(buffer.len());
        buffer.drain(..buffer.len() - unread);
        Ok(State::Reading { source, buffer, ahead: 0, spare: Vec::new() })
    }

    /// Takes back the end of the block that was handed out last, to begin the next one with.
    pub fn put_back(&mut self, rest: &[u8]) {
        if let State::Reading { buffer, spare, .. } = &mut self.state {
            let mut begun = std::mem::take(spare);
            begun.extend_from_slice(rest);
            begun.append(buffer);
            *buffer = begun;
        }
    }

    /// Takes back the memory of a block that was used.
    pub fn reuse(&mut self, mut bytes: Vec<u8>) {
        if let State::Reading { spare, .. } = &mut self.state {
            bytes.clear();
            *spare = bytes;
        }
    }

    /// Reads what comes next while the last block is being used, the end of which was put back. If the future is dropped, the
    /// reader is of no more use.
    ///
    /// # Errors
    ///
    /// As for [`Reader::next`].
    pub async fn read_ahead(&mut self) -> Result<(), TailError> {
        if let State::Reading { source, buffer, ahead, .. } = &mut self.state {
            let before = buffer.len();
            source.read(buffer, self.block_bytes - (*ahead).min(self.block_bytes)).await?;
            *ahead += buffer.len() - before;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Step, TailError> {
        let State::Reading { source, buffer, ahead, .. } = &mut self.state else { return Ok(Step::Rotated) };
        let full = buffer.len() + self.block_bytes - std::mem::take(ahead).min(self.block_bytes);
        while buffer.len() < full {
            let before = buffer.len();
            source.read(buffer, full - before).await?;
            if buffer.len() == before {
                return self.finish().await;
            }
        }
        let offset = source.offset - buffer.len() as u64;
        Ok(Step::Block(Block { offset, bytes: std::mem::take(buffer), follows: Follows::More }))
    }

    fn ended(&self) -> Step {
        match &self.state {
            State::Done(step) => step.clone(),
            State::Start | State::Reading { .. } => Step::Rotated,
        }
    }

    /// The last block, once the file has proven to be the one that was expected.
    async fn finish(&mut self) -> Result<Step, TailError> {
        let same = self.is_same().await?;
        let State::Reading { source, buffer, .. } = &mut self.state else { return Ok(Step::Rotated) };
        let (torn, reached, offset) = (source.torn, source.offset, source.offset - buffer.len() as u64);
        let bytes = std::mem::take(buffer);
        self.state = State::Done(match same {
            false => Step::Rotated,
            true if reached < self.file.offset() => self.short(reached, torn),
            true => Step::End { torn },
        });
        if bytes.is_empty() || !matches!(self.state, State::Done(Step::End { .. })) {
            return Ok(self.ended());
        }
        let follows = if self.file.closing && !torn { Follows::Nothing } else { Follows::Growth };
        Ok(Step::Block(Block { offset, bytes, follows }))
    }

    /// True if what was handed out is of the expected file. A compressed file shows that at its
    /// beginning; of a plain one the name may have passed to another file since.
    ///
    /// # Errors
    ///
    /// The store cannot read it.
    pub async fn is_same(&self) -> Result<bool, TailError> {
        let LogFile { path, packing, fingerprint, .. } = self.file;
        if *packing != Packing::Plain || fingerprint.len == 0 {
            return Ok(true); // or an object, of which every version is whole
        }
        let opened = Bytes::open(self.logs, path, *packing, 0, fingerprint.len).await;
        let Some(mut source) = gone(opened)? else { return Ok(false) };
        let mut head = Vec::new();
        source.read(&mut head, HEAD_BYTES).await?;
        Ok(fingerprint.fits(&head))
    }

    /// What it means that the file ended before the place up to which it was read.
    fn short(&self, end: u64, torn: bool) -> Step {
        match &self.file.known {
            Some(position) if !torn => Step::Lost(shorter(self.file, position, end)),
            _ => Step::End { torn },
        }
    }
}

/// Where the last whole line of a file ends; `None` if the file has just gone.
pub(super) async fn last_line_end(logs: &dyn Store, file: &LogFile) -> Result<Option<u64>, TailError> {
    let Some(meta) = logs.lookup(&file.path).await? else { return Ok(None) };
    if file.packing == Packing::Plain {
        return last_newline(logs, file, meta.len).await;
    }
    let opened = Bytes::open(logs, &file.path, file.packing, 0, meta.len).await;
    let Some(mut source) = gone(opened)? else { return Ok(None) };
    let (mut end, mut buffer) = (0, Vec::new());
    loop {
        buffer.clear();
        let offset = source.offset;
        source.read(&mut buffer, BLOCK_BYTES).await?;
        if buffer.is_empty() {
            return Ok(Some(end));
        }
        end = line_end(&buffer).map_or(end, |at| offset + at as u64);
    }
}

/// Looks for the last newline from the end of a plain file backwards.
async fn last_newline(logs: &dyn Store, file: &LogFile, len: u64) -> Result<Option<u64>, TailError> {
    const STEP: u64 = 64 << 10;
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let Some(mut source) = gone(Bytes::open(logs, &file.path, Packing::Plain, start, end).await)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        source.read(&mut bytes, BLOCK_BYTES).await?;
        if let Some(at) = line_end(&bytes) {
            return Ok(Some(start + at as u64));
        }
        end = start;
    }
    Ok(Some(0))
}

/// After the last newline.
fn line_end(buffer: &[u8]) -> Option<usize> {
    buffer.iter().rposition(|b| *b == b'\n').map(|newline| newline + 1)
}
