//! What is read piece by piece: large files and listings. Each piece is one crossing to a thread that may block, started while the
//! piece before it is used. (Not a thread that feeds a channel: enough slow readers would hold all threads that
//! the writers need.)

use super::beneath::{Fault, NEITHER, ctime, look, meta, mtime, name, open_dir, parent};
use super::{Root, crossing};
use crate::store::{Chunk, ErrorKind, Listed, Meta, Named, Odd, RESERVED, StoreError};
use bytes::Bytes;
use futures::stream::{self, Stream};
use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom, Stat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::Arc;
use syncd_parsers::RelPath;
use tokio::task::JoinHandle;

/// Files up to this size are read whole, larger ones in pieces of it.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

/// A buffer of directory entries: some 300 to 1,000 of them.
const ENTRIES_BYTES: usize = 32 << 10;

/// One step of something that is read piece by piece.
pub(super) enum Step<T> {
    More(T),
    Last(T),
    End,
}

type StepResult<T> = Result<Step<T>, Fault>;

enum Next<S, T> {
    Idle(S),
    Running(JoinHandle<(S, StepResult<T>)>),
    Done,
}

/// The pieces that `step` gives, one of them read ahead. Nothing happens before the first poll; a stream that is
/// dropped finishes at most the piece it is at.
pub(super) fn pieces<S: Send + 'static, T: Send + 'static>(
    op: &'static str,
    path: RelPath,
    state: S,
    step: fn(&mut S) -> StepResult<T>,
) -> impl Stream<Item = Result<T, StoreError>> + Send + 'static {
    let run = move |mut state: S| {
        crossing(move || {
            let result = step(&mut state);
            (state, result)
        })
    };
    stream::unfold((Next::Idle(state), path), move |(next, path)| async move {
        let running = match next {
            Next::Idle(state) => run(state),
            Next::Running(running) => running,
            Next::Done => return None,
        };
        match running.await {
            Ok((state, Ok(Step::More(piece)))) => Some((Ok(piece), (Next::Running(run(state)), path))),
            Ok((_, Ok(Step::Last(piece)))) => Some((Ok(piece), (Next::Done, path))),
            Ok((_, Ok(Step::End))) => None,
            Ok((_, Err(fault))) => Some((Err(fault.at(op, &path)), (Next::Done, path))),
            Err(stopped) => Some((Err(super::stopped(stopped).at(op, &path)), (Next::Done, path))),
        }
    })
}

/// A file that is open for reading, whose version is known.
pub(super) struct Reader {
    file: OwnedFd,
    stat: Stat,
    at: u64,
    end: u64,
    /// Up to here there is data and no hole.
    data_end: u64,
}

impl Reader {
    /// # Errors
    ///
    /// [`ErrorKind::Changed`] if something else than a file is there now.
    pub(super) fn open(root: &Root, path: &RelPath) -> Result<(Self, Meta), Fault> {
        let file = open_file(root, path)?;
        let stat = rustix::fs::fstat(&file)?;
        let meta = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => meta(&stat),
            _ => None,
        };
        let meta = meta.ok_or_else(|| Fault::new(ErrorKind::Changed, "it is not a regular file any more"))?;
        // A file with as many blocks as it needs has no holes to look for.
        let is_sparse = (stat.st_blocks as u64).saturating_mul(512) < meta.len;
        let data_end = if is_sparse { 0 } else { meta.len };
        Ok((Self { file, stat, at: 0, end: meta.len, data_end }, meta))
    }

    /// The whole of a small file.
    pub(super) fn whole(mut self) -> Result<Bytes, Fault> {
        self.data_end = self.end;
        let bytes = if self.end == 0 { Bytes::new() } else { self.data()? };
        self.check_version()?;
        Ok(bytes)
    }

    pub(super) fn step(&mut self) -> StepResult<Chunk> {
        let chunk = match self.hole()? {
            Some(len) => Chunk::Hole(len),
            None => Chunk::Data(self.data()?),
        };
        if self.at < self.end {
            return Ok(Step::More(chunk));
        }
        self.check_version()?;
        Ok(Step::Last(chunk))
    }

    /// The hole that begins here, if one does.
    fn hole(&mut self) -> Result<Option<u64>, Fault> {
        if self.at < self.data_end {
            return Ok(None);
        }
        let start = self.at;
        self.at = match rustix::fs::seek(&self.file, SeekFrom::Data(start)) {
            Ok(data) => data.min(self.end),
            Err(Errno::NXIO) => self.end,
            // A file system that does not know.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => start,
            Err(errno) => return Err(errno.into()),
        };
        if self.at > start {
            return Ok(Some(self.at - start));
        }
        self.data_end = rustix::fs::seek(&self.file, SeekFrom::Hole(start)).map_or(self.end, |hole| hole.min(self.end));
        // Data ends where it begins only if the file became shorter between the two questions.
        if self.data_end > start { Ok(None) } else { Err(changed()) }
    }

    fn data(&mut self) -> Result<Bytes, Fault> {
        let len = (self.data_end - self.at).min(PIECE_BYTES);
        let data = read_at(&self.file, self.at, len)?;
        self.at += len;
        if data.len() as u64 == len { Ok(data) } else { Err(changed()) }
    }

    fn check_version(&self) -> Result<(), Fault> {
        let version = |stat: &Stat| (stat.st_ino, stat.st_size, mtime(stat), ctime(stat));
        let now = rustix::fs::fstat(&self.file)?;
        if version(&now) == version(&self.stat) { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> Fault {
    Fault::new(ErrorKind::Changed, "size, time or inode differ from before")
}

/// `NONBLOCK`, or a pipe put in the place of a file would keep us forever.
fn open_file(root: &Root, path: &RelPath) -> Result<OwnedFd, Fault> {
    let dir = parent(&root.dir, path).map_err(|errno| absent_or(errno, ErrorKind::NotFound))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(&dir, name(path), flags, Mode::empty()).map_err(|errno| absent_or(errno, ErrorKind::Changed))
}

/// A link (`LOOP`) or a socket (`NXIO`) where a file or directory was.
fn absent_or(errno: Errno, kind: ErrorKind) -> Fault {
    match errno {
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Fault::from(errno).as_kind(kind),
        errno => errno.into(),
    }
}

/// Fewer bytes only at the end of the file.
fn read_at(file: &OwnedFd, at: u64, len: u64) -> Result<Bytes, Fault> {
    let len = usize::try_from(len).map_err(|_| Errno::INVAL)?;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let next = at + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), next) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bytes.into())
}

/// A part of a file, of whatever version.
pub(super) struct Range {
    file: OwnedFd,
    at: u64,
    end: u64,
}

impl Range {
    pub(super) fn open(root: &Root, path: &RelPath, offset: u64, len: u64) -> Result<Self, Fault> {
        let file = open_file(root, path)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Fault::new(ErrorKind::Changed, "it is not a regular file any more"));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Self { file, at: offset, end: offset.saturating_add(len).min(size) })
    }

    pub(super) fn step(&mut self) -> StepResult<Bytes> {
        if self.at >= self.end {
            return Ok(Step::End);
        }
        let wanted = (self.end - self.at).min(PIECE_BYTES);
        let bytes = read_at(&self.file, self.at, wanted)?;
        self.at += wanted;
        let is_last = self.at >= self.end || (bytes.len() as u64) < wanted;
        Ok(if is_last { Step::Last(bytes) } else { Step::More(bytes) })
    }
}

/// A directory on its way to be listed.
pub(super) struct Lister {
    dir: Source,
    path: RelPath,
    buffer: Vec<MaybeUninit<u8>>,
}

enum Source {
    Store(Arc<super::Shared>),
    Open(OwnedFd),
}

/// Whether a directory has more entries than those that a buffer held.
#[derive(PartialEq, Eq)]
enum Rest {
    More,
    None,
}

impl Lister {
    pub(super) fn new(store: Arc<super::Shared>, path: RelPath) -> Self {
        Self { dir: Source::Store(store), path, buffer: Vec::new() }
    }

    /// A small directory takes one step: opened, read and found to be at its end.
    pub(super) fn step(&mut self) -> StepResult<Vec<Result<Listed, StoreError>>> {
        if let Source::Store(store) = &self.dir {
            let root = store.root()?;
            self.dir = Source::Open(open_listing(&root, &self.path)?);
            self.buffer = vec![MaybeUninit::uninit(); ENTRIES_BYTES];
        }
        let Source::Open(dir) = &self.dir else { return Ok(Step::End) };
        let mut entries = Vec::new();
        while entries.len() < 256 {
            if read_entries(dir, self.path.is_root(), &mut self.buffer, &mut entries)? == Rest::None {
                return Ok(Step::Last(entries));
            }
        }
        Ok(Step::More(entries))
    }
}

fn open_listing(root: &Root, path: &RelPath) -> Result<OwnedFd, Fault> {
    let open = parent(&root.dir, path).and_then(|dir| open_dir(dir.as_fd(), name(path), OFlags::RDONLY));
    open.map_err(|errno| absent_or(errno, ErrorKind::NotFound))
}

/// One buffer of entries.
fn read_entries(
    dir: &OwnedFd,
    is_root: bool,
    buffer: &mut [MaybeUninit<u8>],
    entries: &mut Vec<Result<Listed, StoreError>>,
) -> Result<Rest, Fault> {
    let mut raw = RawDir::new(dir, buffer);
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let is_ours = is_root && entry.file_name().to_bytes() == RESERVED.as_bytes();
        if !is_ours && let Some(listed) = listed(dir, entry.file_name())? {
            entries.push(Ok(listed));
        }
        if raw.is_buffer_empty() {
            return Ok(Rest::More);
        }
    }
    Ok(Rest::None)
}

/// `None` for the dots, and for what went between the listing and the look.
fn listed(dir: &OwnedFd, name: &CStr) -> Result<Option<Listed>, Fault> {
    if matches!(name.to_bytes(), b"." | b"..") {
        return Ok(None);
    }
    let entry_name = || name.to_bytes().to_vec();
    match look(dir.as_fd(), name) {
        Err(Errno::NOENT | Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
        Ok(Some(meta)) => Ok(Some(Listed::Entry(Named { name: entry_name(), meta }))),
        Ok(None) => Ok(Some(Listed::Odd(Odd { name: entry_name(), reason: NEITHER.into() }))),
    }
}
