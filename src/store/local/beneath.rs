//! From paths to directory handles without following a link, and from what the kernel says to [`Meta`] and [`ErrorKind`].
//! Everything here blocks.

use crate::store::{ErrorKind, Kind, Meta, Owner, StoreError, Time};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::{Errno, Result as SysResult};
use rustix::path::Arg;
use std::sync::Arc;
use syncd_parsers::RelPath;

/// Why a call did not happen, before it is known which call it was.
pub(super) struct Fault {
    pub(super) kind: ErrorKind,
    cause: Box<dyn std::error::Error + Send + Sync>,
}

impl Fault {
    pub(super) fn new(kind: ErrorKind, cause: &'static str) -> Self {
        Self { kind, cause: cause.into() }
    }

    #[must_use]
    pub(super) fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn at(self, op: &'static str, path: &RelPath) -> StoreError {
        StoreError::new(op, path, self.kind).because(self.cause)
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        let cause: Box<dyn std::error::Error + Send + Sync> = match errno {
            Errno::NOTDIR | Errno::LOOP => "a part of the path is a symbolic link or not a directory".into(),
            _ => std::io::Error::from(errno).into(),
        };
        Self { kind: kind_of(errno), cause }
    }
}

/// The one place where errors of the kernel get their meaning.
fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY => ErrorKind::AlreadyExists,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => ErrorKind::PermissionDenied,
        Errno::NOSPC | Errno::DQUOT => ErrorKind::NoSpace,
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ | Errno::FBIG | Errno::XDEV | Errno::MLINK => {
            ErrorKind::Unsupported
        }
        Errno::OPNOTSUPP | Errno::NOSYS => ErrorKind::Unsupported,
        // A server or a disk that may come back, or a limit of this process that others will free.
        Errno::STALE | Errno::IO | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::REMOTEIO => {
            ErrorKind::Unavailable
        }
        Errno::NOTCONN | Errno::CONNREFUSED | Errno::CONNRESET | Errno::CONNABORTED | Errno::SHUTDOWN => {
            ErrorKind::Unavailable
        }
        Errno::AGAIN | Errno::INTR | Errno::BUSY | Errno::MFILE | Errno::NFILE | Errno::NOMEM => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

/// True if the kernel's answer proves that nothing can be at a path.
pub(super) fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)
}

/// A directory that a path was walked to.
pub(super) enum Dir {
    Top(Arc<OwnedFd>),
    Below(OwnedFd),
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Top(fd) => fd.as_fd(),
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

/// The directory that holds `path`, to be used with [`name`].
///
/// Walked one component at a time, each of which must be a directory and no link: so nobody who swaps a
/// directory for a link leads us out of the root. `openat2` would do it in one call, but kernels before
/// 5.6 do not have it, and they are common below Hadoop.
pub(super) fn parent(top: &Arc<OwnedFd>, path: &RelPath) -> SysResult<Dir> {
    let mut dir = Dir::Top(Arc::clone(top));
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        if names.peek().is_some() {
            dir = Dir::Below(open_dir(dir.as_fd(), name, OFlags::PATH)?);
        }
    }
    Ok(dir)
}

/// What [`parent`] knows `path` by: its last component, or for the root (its own parent here) a dot.
pub(super) fn name(path: &RelPath) -> &[u8] {
    if path.is_root() { b"." } else { path.name() }
}

/// `access` is `PATH` to walk on or `RDONLY` to list.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &[u8], access: OFlags) -> SysResult<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// What stands at `name`, with the target if it is a link; `None` for what no other store can hold.
///
/// # Errors
///
/// Also `AGAIN`, if a link became something else meanwhile.
pub(super) fn look<P: Arg + Copy>(dir: BorrowedFd<'_>, name: P) -> SysResult<Option<Meta>> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let Some(mut meta) = meta(&stat) else { return Ok(None) };
    if meta.kind == Kind::Symlink {
        let target = rustix::fs::readlinkat(dir, name, Vec::new());
        meta.target =
            Some(target.map_err(|errno| if errno == Errno::INVAL { Errno::AGAIN } else { errno })?.into_bytes());
    }
    Ok(Some(meta))
}

/// What [`look`] has no word for.
pub(super) const NEITHER: &str = "a device, pipe or socket";

/// All but the target of a link; `None` for what is neither file nor directory nor link.
pub(super) fn meta(stat: &Stat) -> Option<Meta> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        _ => return None,
    };
    let len = if kind == Kind::File { stat.st_size.try_into().unwrap_or(0) } else { 0 };
    Some(Meta {
        kind,
        len,
        mtime: Some(mtime(stat)),
        mode: Some(stat.st_mode & 0o7777),
        owner: Some(Owner::Ids { uid: stat.st_uid, gid: stat.st_gid }),
        target: None,
        tag: Some(format!("{}:{}", stat.st_ino, ctime(stat).0)),
        complete: true,
    })
}

pub(super) fn mtime(stat: &Stat) -> Time {
    time(stat.st_mtime, stat.st_mtime_nsec as i64)
}

pub(super) fn ctime(stat: &Stat) -> Time {
    time(stat.st_ctime, stat.st_ctime_nsec as i64)
}

fn time(secs: i64, nanos: i64) -> Time {
    Time(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The attributes that a POSIX file can take over; what is `None` stays as it is.
#[derive(Clone, Copy)]
pub(super) struct Attrs {
    mtime: Option<Time>,
    mode: Option<Mode>,
    ids: Option<(Uid, Gid)>,
}

impl Attrs {
    /// Owners only where this process `may_chown`.
    pub(super) fn of(meta: &Meta, mode: Option<u32>, may_chown: bool) -> Self {
        let ids = match meta.owner {
            Some(Owner::Ids { uid, gid }) if may_chown => Some((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => None,
        };
        Self { mtime: meta.mtime, mode: mode.map(Mode::from_raw_mode), ids }
    }

    pub(super) fn without_time(self) -> Self {
        Self { mtime: None, ..self }
    }

    /// Of a file that is open. The mode comes after the owner, since a change of owner takes the set-id bits away.
    pub(super) fn set(self, file: &OwnedFd) -> SysResult<()> {
        if let Some((uid, gid)) = self.ids {
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(file, mode)?;
        }
        self.mtime.map_or(Ok(()), |time| rustix::fs::futimens(file, &only_mtime(time)))
    }

    /// Of what stands at `name`, a link itself too.
    pub(super) fn set_at(self, dir: BorrowedFd<'_>, name: &[u8]) -> SysResult<()> {
        if let Some((uid, gid)) = self.ids {
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if let Some(mode) = self.mode {
            chmod_at(dir, name, mode)?;
        }
        let set_time = |time| rustix::fs::utimensat(dir, name, &only_mtime(time), AtFlags::SYMLINK_NOFOLLOW);
        self.mtime.map_or(Ok(()), set_time)
    }
}

/// By a handle, because `fchmodat` follows links (and `fchmodat2` is of kernel 6.6), and through `/proc`,
/// because a handle for reading is refused to those who may not read. Links have no mode.
fn chmod_at(dir: BorrowedFd<'_>, name: &[u8], mode: Mode) -> SysResult<()> {
    use rustix::fd::AsRawFd;
    let file = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink || Mode::from_raw_mode(stat.st_mode) == mode {
        return Ok(());
    }
    rustix::fs::chmodat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), mode, AtFlags::empty())
}

fn only_mtime(time: Time) -> Timestamps {
    let second = 1_000_000_000;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.0.div_euclid(second), tv_nsec: time.0.rem_euclid(second) },
    }
}
