//! Files written aside: made below `.syncd/tmp`, made durable, and only then renamed to their final names. Waiting files
//! are made durable together. Everything here blocks but [`Answer`], by which a caller waits.

use super::Root;
use super::beneath::{Attrs, Dir, Fault, name, open_dir, parent};
use crate::store::{Chunk, ErrorKind, RESERVED};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::{Errno, Result as SysResult};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use syncd_parsers::RelPath;
use tokio::sync::oneshot;

/// Up to so many files are made durable one by one: a lone file should not wait for what others wrote to the file system.
const SINGLE_FSYNCS_MAX: usize = 3;

/// How the caller of a put hears of its end.
pub(super) type Answer = oneshot::Sender<Result<(), Fault>>;

/// A file that is being written aside, for its final place.
pub(super) struct Draft {
    temp: Temp,
    file: OwnedFd,
    dir: Dir,
    path: RelPath,
    at: u64,
    ends_in_hole: bool,
}

impl Draft {
    /// Refuses early if there is no directory for the final name.
    pub(super) fn begin(root: &Arc<Root>, path: &RelPath) -> Result<Self, Fault> {
        let dir = final_dir(root, path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Whatever the mode says, nobody else looks into the directory for temporary files.
        let open = |tmp: &OwnedFd, name: &str| rustix::fs::openat(tmp, name, flags, Mode::from_raw_mode(0o666));
        let (temp, file) = Temp::make(root, open)?;
        Ok(Self { temp, file, dir, path: path.clone(), at: 0, ends_in_hole: false })
    }

    /// Appends `chunks`; after an error nothing of the draft is left.
    pub(super) fn write(mut self, chunks: &[Chunk]) -> Result<Self, Fault> {
        match chunks.iter().try_for_each(|chunk| self.append(chunk)) {
            Ok(()) => Ok(self),
            Err(errno) => Err(self.give_up(errno)),
        }
    }

    /// Ends the writing and hands the file over; `answer` hears when it is there for good.
    pub(super) fn publish(self, attrs: Attrs, answer: Answer) {
        match self.seal(attrs) {
            Ok(sealed) => sealed.publish(answer),
            Err(fault) => reply(answer, Err(fault)),
        }
    }

    pub(super) fn discard(self) {
        self.temp.discard();
    }

    /// Holes are left out; the file's length covers one at the end.
    fn append(&mut self, chunk: &Chunk) -> SysResult<()> {
        match chunk {
            Chunk::Hole(0) => {}
            Chunk::Hole(len) => {
                self.at = self.at.checked_add(*len).ok_or(Errno::FBIG)?;
                self.ends_in_hole = true;
            }
            Chunk::Data(data) if data.is_empty() => {}
            Chunk::Data(data) => {
                write_all(&self.file, data, self.at)?;
                self.at += data.len() as u64;
                self.ends_in_hole = false;
            }
        }
        Ok(())
    }

    fn seal(self, attrs: Attrs) -> Result<Sealed, Fault> {
        match self.finish(attrs) {
            Ok(()) => Ok(Sealed { temp: self.temp, dir: self.dir, path: self.path }),
            Err(errno) => Err(self.give_up(errno)),
        }
    }

    fn finish(&self, attrs: Attrs) -> SysResult<()> {
        if self.ends_in_hole {
            rustix::fs::ftruncate(&self.file, self.at)?;
        }
        attrs.set(&self.file)?;
        if self.temp.root.durability == Durability::Each { rustix::fs::fsync(&self.file) } else { Ok(()) }
    }

    fn give_up(self, errno: Errno) -> Fault {
        self.temp.discard();
        errno.into()
    }
}

/// A link appears in one step, too. It has no bytes that could be missing after a power cut, so nothing is made durable first.
pub(super) fn put_link(root: &Arc<Root>, path: &RelPath, target: &[u8], attrs: Attrs) -> Result<(), Fault> {
    let dir = final_dir(root, path)?;
    let (temp, ()) = Temp::make(root, |tmp, name| rustix::fs::symlinkat(target, tmp, name))?;
    if let Err(errno) = attrs.set_at(temp.tmp.as_fd(), temp.name.as_bytes()) {
        temp.discard();
        return Err(errno.into());
    }
    temp.rename(&dir, path)
}

fn final_dir(root: &Root, path: &RelPath) -> Result<Dir, Fault> {
    if path.is_root() {
        return Err(Fault::new(ErrorKind::Unsupported, "the root is a directory"));
    }
    Ok(parent(&root.dir, path)?)
}

fn write_all(file: &OwnedFd, mut data: &[u8], mut at: u64) -> SysResult<()> {
    while !data.is_empty() {
        match rustix::io::pwrite(file, data, at) {
            Ok(len) => (data, at) = (&data[len..], at + len as u64),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// How files become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Many with one `syncfs`.
    Grouped,
    /// Each with its own `fsync`.
    Each,
}

impl Durability {
    /// `syncfs` alone is trusted where it is known to write everything and to report what could not be written: on these
    /// file systems and since kernel 5.8. (On FUSE it does nothing.)
    pub(super) fn of(file_system: u64, kernel: (u32, u32)) -> Self {
        let known = [EXT4, XFS, BTRFS, TMPFS, F2FS].contains(&file_system);
        if known && kernel >= (5, 8) { Self::Grouped } else { Self::Each }
    }
}

const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683e;
const TMPFS: u64 = 0x0102_1994;
const F2FS: u64 = 0xf2f5_2010;

/// A file whose bytes and attributes are written, if not yet durable.
struct Sealed {
    temp: Temp,
    dir: Dir,
    path: RelPath,
}

impl Sealed {
    fn publish(self, answer: Answer) {
        let root = Arc::clone(&self.temp.root);
        match root.durability {
            Durability::Each => reply(answer, self.rename()),
            Durability::Grouped => root.waiting.add(&root, Waiting { sealed: self, answer }),
        }
    }

    fn rename(self) -> Result<(), Fault> {
        self.temp.rename(&self.dir, &self.path)
    }

    fn fsync(&self) -> SysResult<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.temp.tmp, self.temp.name.as_str(), flags, Mode::empty())?;
        rustix::fs::fsync(file)
    }
}

struct Waiting {
    sealed: Sealed,
    answer: Answer,
}

/// Files that wait to become durable. Whoever adds one while nobody is at it works off all that come, in his own thread.
#[derive(Default)]
pub(super) struct Queue(Mutex<(Vec<Waiting>, Leader)>);

#[derive(Default, PartialEq, Eq)]
enum Leader {
    #[default]
    Wanted,
    AtWork,
}

impl Queue {
    fn add(&self, root: &Root, file: Waiting) {
        {
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            queue.0.push(file);
            if queue.1 == Leader::AtWork {
                return;
            }
            queue.1 = Leader::AtWork;
        }
        while let Some(batch) = self.next_batch() {
            commit(root, batch);
        }
    }

    fn next_batch(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.0.is_empty() {
            queue.1 = Leader::Wanted;
            return None;
        }
        Some(std::mem::take(&mut queue.0))
    }
}

/// First durable, then visible, then answered.
fn commit(root: &Root, batch: Vec<Waiting>) {
    let alone = batch.len() <= SINGLE_FSYNCS_MAX;
    let all = if alone { Ok(()) } else { rustix::fs::syncfs(&*root.dir) };
    for Waiting { sealed, answer } in batch {
        let durable = if alone { sealed.fsync() } else { all };
        let done = match durable {
            Ok(()) => sealed.rename(),
            Err(errno) => {
                sealed.temp.discard();
                Err(errno.into())
            }
        };
        reply(answer, done);
    }
}

/// A caller who has gone does not want to know.
pub(super) fn reply(answer: Answer, result: Result<(), Fault>) {
    drop(answer.send(result));
}

/// Something with a temporary name, which is removed unless it gets its final one.
struct Temp {
    root: Arc<Root>,
    tmp: Arc<OwnedFd>,
    name: String,
    is_there: bool,
}

impl Temp {
    /// Tries further numbers while a process before us with the same number left such a file.
    fn make<T>(root: &Arc<Root>, make: impl Fn(&OwnedFd, &str) -> SysResult<T>) -> Result<(Self, T), Fault> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let mut tmp = root.tmp()?;
        let mut was_gone = false;
        loop {
            let name = format!("{}-{}", std::process::id(), NUMBERS.fetch_add(1, Ordering::Relaxed));
            match make(&tmp, &name) {
                Ok(made) => return Ok((Self { root: Arc::clone(root), tmp, name, is_there: true }, made)),
                Err(Errno::EXIST) => {}
                // Somebody removed the directory that we hold.
                Err(Errno::NOENT) if !was_gone => (tmp, was_gone) = (root.reopen_tmp()?, true),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Over a file or link that may be there.
    fn rename(mut self, dir: &Dir, path: &RelPath) -> Result<(), Fault> {
        match rustix::fs::renameat(&self.tmp, self.name.as_str(), dir, name(path)) {
            Ok(()) => {
                self.is_there = false;
                Ok(())
            }
            Err(errno) => {
                self.discard();
                Err(if errno == Errno::XDEV { Fault::new(ErrorKind::Unsupported, ELSEWHERE) } else { errno.into() })
            }
        }
    }

    fn discard(mut self) {
        self.is_there = false;
        unlink(&self.tmp, &self.name);
    }
}

const ELSEWHERE: &str = "it is on another file system than .syncd/tmp below the root";

/// Only where a future was dropped: all other ways end in `rename` or `discard`. That may be in an async
/// task, so the call that blocks is left to another thread.
impl Drop for Temp {
    fn drop(&mut self) {
        if !self.is_there {
            return;
        }
        let (tmp, name) = (Arc::clone(&self.tmp), std::mem::take(&mut self.name));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || unlink(&tmp, &name))),
            Err(_) => unlink(&tmp, &name),
        }
    }
}

/// What cannot be removed is removed by the next [`clean`].
fn unlink(tmp: &OwnedFd, name: &str) {
    let _: SysResult<()> = rustix::fs::unlinkat(tmp, name, AtFlags::empty());
}

/// The directory for temporary files, made if it is not there, closed to others.
pub(super) fn open_tmp(top: &OwnedFd) -> SysResult<OwnedFd> {
    let reserved = make_dir(top, RESERVED)?;
    make_dir(&reserved, "tmp")
}

fn make_dir(dir: &OwnedFd, name: &str) -> SysResult<OwnedFd> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_dir(dir.as_fd(), name.as_bytes(), OFlags::RDONLY),
        Err(errno) => Err(errno),
    }
}

/// Removes what a crash left in the directory for temporary files.
pub(super) fn clean(tmp: &OwnedFd) -> SysResult<()> {
    let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
    let mut entries = RawDir::new(tmp, &mut buffer);
    while let Some(entry) = entries.next() {
        match rustix::fs::unlinkat(tmp, entry?.file_name(), AtFlags::empty()) {
            // The dots, and directories, which are not ours.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
