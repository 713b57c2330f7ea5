//! `Local`, a POSIX tree on Linux: this machine's disks, and whatever is mounted. Every path is walked from a handle of the root, and no
//! link is ever followed below it. Leaves attributes that only other stores have to them.
//!
//! The handle is opened when it is first needed, and kept: what is mounted over the root or put in its place later is not
//! touched by mistake. [`Store::identity`] looks at the root's path anew each time and takes a new handle if the same root came back
//! there (mounted again, for example); of another root it only gives the name.
//!
//! Each small file costs one crossing to a thread that may block, and a file in flight one or two file descriptors.

mod aside;
mod beneath;
mod flow;

use super::{Body, Capabilities, ErrorKind, Listed, Meta, Owners, Read, Rename, Store, StoreError};
use aside::{Draft, Durability, reply};
use async_trait::async_trait;
use beneath::{Attrs, Fault, NEITHER, is_absent, look, name, open_dir, parent};
use bytes::Bytes;
use flow::{Lister, PIECE_BYTES, Range, Reader, pieces};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, SeekFrom};
use rustix::io::{Errno, Result as SysResult};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use syncd_parsers::RelPath;
use tokio::task::{JoinError, JoinHandle};

/// So many chunks that are ready are written in one crossing.
const CHUNKS_AT_ONCE: usize = 8;

/// How often a directory is emptied again because something new was in it.
const CLEARINGS_MAX: usize = 16;

/// A directory of this machine as a store.
pub struct Local {
    shared: Arc<Shared>,
}

impl Local {
    /// The store below `root`, which need not be there yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if `root` is not absolute: what it means must not depend on where we run.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        if !root.is_absolute() {
            return Err(
                StoreError::new("open", &RelPath::root(), ErrorKind::Unsupported).because("not an absolute path")
            );
        }
        let capabilities = capabilities();
        Ok(Self { shared: Arc::new(Shared { path: root.to_owned(), capabilities, held: Mutex::default() }) })
    }

    /// The way of every call that does not stream: one crossing, in which `work` gets the root.
    async fn call<T: Send + 'static>(
        &self,
        op: &'static str,
        path: &RelPath,
        work: impl FnOnce(&Arc<Root>, &RelPath) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (shared, at) = (Arc::clone(&self.shared), path.clone());
        cross(move || work(&shared.root()?, &at)).await.map_err(|fault| fault.at(op, path))
    }

    fn attrs(&self, meta: &Meta) -> Attrs {
        let holds = &self.shared.capabilities;
        Attrs::of(meta, holds.kept_mode(meta), holds.owners == Owners::Ids)
    }

    /// Runs `work`, which ends in an answer that may come from another thread than its own.
    async fn publish(path: &RelPath, work: impl FnOnce(aside::Answer) + Send + 'static) -> Result<(), StoreError> {
        let (answer, done) = tokio::sync::oneshot::channel();
        drop(crossing(move || work(answer)));
        let unanswered = |_| Err(Fault::new(ErrorKind::Unavailable, "the process is shutting down"));
        done.await.unwrap_or_else(unanswered).map_err(|fault| fault.at("put", path))
    }

    async fn put_whole(&self, path: &RelPath, attrs: Attrs, bytes: Bytes) -> Result<(), StoreError> {
        let (shared, at) = (Arc::clone(&self.shared), path.clone());
        let begin = move || Draft::begin(&shared.root()?, &at)?.write(&[super::Chunk::Data(bytes)]);
        Self::publish(path, move |answer| match begin() {
            Ok(draft) => draft.publish(attrs, answer),
            Err(fault) => reply(answer, Err(fault)),
        })
        .await
    }

    async fn put_stream(
        &self,
        path: &RelPath,
        attrs: Attrs,
        chunks: BoxStream<'static, Result<super::Chunk, StoreError>>,
    ) -> Result<(), StoreError> {
        let mut draft = self.call("put", path, Draft::begin).await?;
        let mut chunks = chunks.try_ready_chunks(CHUNKS_AT_ONCE);
        while let Some(ready) = chunks.next().await {
            match ready {
                Ok(ready) => draft = cross(move || draft.write(&ready)).await.map_err(|fault| fault.at("put", path))?,
                Err(error) => {
                    // The caller's error tells more than one of the clearing would.
                    let _: Result<(), JoinError> = crossing(move || draft.discard()).await;
                    return Err(error.1);
                }
            }
        }
        Self::publish(path, move |answer| draft.publish(attrs, answer)).await
    }
}

#[async_trait]
impl Store for Local {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    /// The file system (its magic number and id) and the root's inode; not the device number, which
    /// another boot may change. NFS has no id, so there it is the inode alone that tells.
    async fn identity(&self) -> Result<String, StoreError> {
        let shared = Arc::clone(&self.shared);
        let root = RelPath::root();
        cross(move || shared.look_at_root()).await.map_err(|fault| fault.at("identity", &root))
    }

    /// Removes what a crash left aside, too, the first time: only the process that holds the lock of the state may call it.
    async fn create_root(&self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let root = RelPath::root();
        cross(move || shared.make_root()).await.map_err(|fault| fault.at("create_root", &root))
    }

    async fn lookup(&self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        self.call("lookup", path, lookup).await
    }

    fn list<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>> {
        let lister = Lister::new(Arc::clone(&self.shared), dir.clone());
        pieces("list", dir.clone(), lister, Lister::step).map_ok(stream::iter).try_flatten().boxed()
    }

    async fn read(&self, path: &RelPath, _seen: &Meta) -> Result<Read, StoreError> {
        let opened = self.call("read", path, |root, path| {
            let (reader, meta) = Reader::open(root, path)?;
            Ok(if meta.len <= PIECE_BYTES { (meta, Ok(reader.whole()?)) } else { (meta, Err(reader)) })
        });
        let (meta, content) = opened.await?;
        let body = match content {
            Ok(bytes) => Body::Whole(bytes),
            Err(reader) => Body::Stream(pieces("read", path.clone(), reader, Reader::step).boxed()),
        };
        Ok(Read { meta, body })
    }

    async fn read_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let range = self.call("read_range", path, move |root, path| Range::open(root, path, offset, len)).await?;
        Ok(pieces("read_range", path.clone(), range, Range::step).boxed())
    }

    /// POSIX does not tell who writes.
    async fn is_open(&self, _path: &RelPath, _seen: &Meta) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn put(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError> {
        let attrs = self.attrs(meta);
        match body {
            Body::Whole(bytes) => self.put_whole(path, attrs, bytes).await,
            Body::Stream(chunks) => self.put_stream(path, attrs, chunks).await,
        }
    }

    async fn put_link(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        let (attrs, target) = (self.attrs(meta), meta.target.clone().unwrap_or_default());
        self.call("put_link", path, move |root, path| {
            if target.is_empty() || target.contains(&0) {
                return Err(Fault::new(ErrorKind::Unsupported, "no name that a link could point to"));
            }
            aside::put_link(root, path, &target, attrs)
        })
        .await
    }

    async fn mkdir(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        let attrs = self.attrs(meta).without_time();
        self.call("mkdir", path, move |root, path| mkdir(root, path, attrs)).await
    }

    async fn set_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        let attrs = self.attrs(meta);
        self.call("set_attrs", path, move |root, path| Ok(attrs.set_at(parent(&root.dir, path)?.as_fd(), name(path))?))
            .await
    }

    /// All are tried; the error is that of the first that failed.
    async fn remove(&self, files: &[RelPath]) -> Result<(), StoreError> {
        let (shared, files) = (Arc::clone(&self.shared), files.to_vec());
        let work = move || {
            let root = shared.root()?;
            let failed = files.into_iter().filter_map(|path| remove(&root, &path).err().map(|fault| (path, fault)));
            Ok(failed.reduce(|first, _| first))
        };
        match cross(work).await {
            Ok(None) => Ok(()),
            Ok(Some((path, fault))) => Err(fault.at("remove", &path)),
            Err(fault) => Err(fault.at("remove", &RelPath::root())),
        }
    }

    /// Stops soon after the future is dropped.
    async fn remove_tree(&self, path: &RelPath) -> Result<(), StoreError> {
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        self.call("remove_tree", path, move |root, path| remove_tree(root, path, &still)).await
    }

    async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        let to = to.clone();
        self.call("rename", from, move |root, from| rename(root, from, &to)).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.call("sync", &RelPath::root(), |root, _| Ok(rustix::fs::syncfs(&*root.dir)?)).await
    }
}

fn capabilities() -> Capabilities {
    let is_root_user = rustix::process::geteuid().is_root();
    Capabilities {
        name: "local",
        tree: true,
        rename: Rename::Native,
        time_unit: Some(Duration::from_nanos(1)),
        dir_times: true,
        modes: true,
        owner_access: !overrides_modes(),
        owners: if is_root_user { Owners::Ids } else { Owners::None },
        symlinks: true,
        listed_per_lookup: 1,
    }
}

/// Root does, unless that was taken from it.
fn overrides_modes() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::DAC_OVERRIDE))
}

fn lookup(root: &Arc<Root>, path: &RelPath) -> Result<Option<Meta>, Fault> {
    match parent(&root.dir, path).and_then(|dir| look(dir.as_fd(), name(path))) {
        Ok(Some(meta)) => Ok(Some(meta)),
        Ok(None) => Err(Fault::new(ErrorKind::Unsupported, NEITHER)),
        Err(errno) if is_absent(errno) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn mkdir(root: &Arc<Root>, path: &RelPath, attrs: Attrs) -> Result<(), Fault> {
    let dir = parent(&root.dir, path)?;
    match rustix::fs::mkdirat(&dir, name(path), Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => expect_dir(dir.as_fd(), name(path))?,
        made => made?,
    }
    Ok(attrs.set_at(dir.as_fd(), name(path))?)
}

fn expect_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Fault> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(()),
        _ => Err(Fault::new(ErrorKind::AlreadyExists, "something else than a directory is there")),
    }
}

fn remove(root: &Arc<Root>, path: &RelPath) -> Result<(), Fault> {
    let gone = parent(&root.dir, path).and_then(|dir| rustix::fs::unlinkat(&dir, name(path), AtFlags::empty()));
    match gone {
        Err(errno) if is_absent(errno) => Ok(()),
        Err(Errno::ISDIR) => Err(Fault::new(ErrorKind::Other, "a directory")),
        gone => Ok(gone?),
    }
}

fn remove_tree(root: &Arc<Root>, path: &RelPath, wanted: &Weak<()>) -> Result<(), Fault> {
    if path.is_root() {
        return Err(Fault::new(ErrorKind::Unsupported, "the root itself is not removed"));
    }
    match parent(&root.dir, path) {
        Err(errno) if is_absent(errno) => Ok(()),
        dir => remove_dir(dir?.as_fd(), name(path), wanted),
    }
}

/// Holds one handle for each level it is down.
fn remove_dir(parent: BorrowedFd<'_>, name: &[u8], wanted: &Weak<()>) -> Result<(), Fault> {
    let dir = match open_dir(parent, name, OFlags::RDONLY) {
        Err(Errno::NOENT) => return Ok(()),
        dir => dir?,
    };
    for _ in 0..CLEARINGS_MAX {
        clear(&dir, wanted)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Fault::new(ErrorKind::Unavailable, "something new appears in it all the time"))
}

fn clear(dir: &OwnedFd, wanted: &Weak<()>) -> Result<(), Fault> {
    rustix::fs::seek(dir, SeekFrom::Start(0))?;
    let mut buffer = vec![MaybeUninit::uninit(); 16 << 10];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        if wanted.strong_count() == 0 {
            return Err(Fault::new(ErrorKind::Other, "nobody waits for it any more"));
        }
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name if entry.file_type() == FileType::Directory => remove_dir(dir.as_fd(), name, wanted)?,
            name => remove_entry(dir, name, wanted)?,
        }
    }
    Ok(())
}

/// What the listing did not call a directory; some file systems do not say.
fn remove_entry(dir: &OwnedFd, name: &[u8], wanted: &Weak<()>) -> Result<(), Fault> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => remove_dir(dir.as_fd(), name, wanted),
        Err(errno) => Err(errno.into()),
    }
}

fn rename(root: &Arc<Root>, from: &RelPath, to: &RelPath) -> Result<(), Fault> {
    let from_dir = parent(&root.dir, from).map_err(|errno| match errno {
        errno if is_absent(errno) => Fault::from(Errno::NOENT),
        errno => errno.into(),
    })?;
    let to_dir = parent(&root.dir, to)?;
    let (from_fd, to_fd) = (from_dir.as_fd(), to_dir.as_fd());
    match rustix::fs::renameat_with(from_fd, name(from), to_fd, name(to), RenameFlags::NOREPLACE) {
        // The flag is unknown to NFS and old FUSE; also the answer where a directory would go below itself.
        Err(Errno::INVAL | Errno::NOSYS) => Ok(rename_if_free((from_fd, name(from)), (to_fd, name(to)))?),
        renamed => Ok(renamed?),
    }
}

/// Two steps where one is not to be had. What appears at `to` between them would be replaced: nobody but syncd writes below
/// a destination, and it never settles a path twice at once.
fn rename_if_free(from: (BorrowedFd<'_>, &[u8]), to: (BorrowedFd<'_>, &[u8])) -> SysResult<()> {
    match rustix::fs::statat(to.0, to.1, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(from.0, from.1, to.0, to.1),
        Ok(_) => Err(Errno::EXIST),
        Err(errno) => Err(errno),
    }
}

/// The one place where blocking calls leave the async threads.
fn crossing<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}

async fn cross<T: Send + 'static>(work: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    crossing(work).await.unwrap_or_else(|error| Err(stopped(error)))
}

fn stopped(error: JoinError) -> Fault {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Fault::new(ErrorKind::Unavailable, "the process is shutting down"),
    }
}

struct Shared {
    path: PathBuf,
    capabilities: Capabilities,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    root: Option<Arc<Root>>,
    is_cleaned: bool,
}

impl Shared {
    /// The root that is held, opened if none is.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if there is none: without a root nothing can be said of what is below it.
    fn root(&self) -> Result<Arc<Root>, Fault> {
        let mut held = self.held();
        if let Some(root) = &held.root {
            return Ok(Arc::clone(root));
        }
        let root = Root::open(&self.path).map_err(|errno| match Fault::from(errno) {
            fault if fault.kind == ErrorKind::NotFound => fault.of_kind(ErrorKind::Unavailable),
            fault => fault,
        })?;
        Ok(Arc::clone(held.root.insert(Arc::new(root))))
    }

    /// The identity of what is at the root's path now. It is held from now on only if it is what was held, or nothing was.
    fn look_at_root(&self) -> Result<String, Fault> {
        let now = Root::open(&self.path)?;
        let identity = now.identity.clone();
        let mut held = self.held();
        let was_held = held.root.as_ref();
        if was_held.is_none_or(|root| root.identity == identity && !root.is_same_handle(&now)) {
            held.root = Some(Arc::new(now));
        }
        Ok(identity)
    }

    /// Whatever is at the root's path afterwards is held.
    fn make_root(&self) -> Result<(), Fault> {
        std::fs::create_dir_all(&self.path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let now = Arc::new(Root::open(&self.path)?);
        let mut held = self.held();
        let root = match &held.root {
            Some(root) if root.is_same_handle(&now) => Arc::clone(root),
            _ => Arc::clone(held.root.insert(now)),
        };
        if !std::mem::replace(&mut held.is_cleaned, true) { root.clean() } else { Ok(()) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open root and what belongs to its file system.
struct Root {
    /// Apart, since files on their way hold it too.
    dir: Arc<OwnedFd>,
    identity: String,
    durability: Durability,
    tmp: Mutex<Option<Arc<OwnedFd>>>,
    waiting: aside::Queue,
}

impl Root {
    /// The root itself may be a link: that is for those who run syncd to say.
    fn open(path: &Path) -> SysResult<Self> {
        let dir = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let file_system = rustix::fs::fstatfs(&dir)?.f_type as u64;
        let id = rustix::fs::fstatvfs(&dir)?.f_fsid;
        let inode = rustix::fs::fstat(&dir)?.st_ino;
        Ok(Self {
            dir: Arc::new(dir),
            identity: format!("local:{file_system:x}:{id:x}:{inode}"),
            durability: Durability::of(file_system, kernel()),
            tmp: Mutex::new(None),
            waiting: aside::Queue::default(),
        })
    }

    /// False also for a handle that went stale.
    fn is_same_handle(&self, other: &Self) -> bool {
        let place = |root: &Self| rustix::fs::fstat(&*root.dir).map(|stat| (stat.st_dev, stat.st_ino));
        place(self).is_ok_and(|held| place(other) == Ok(held))
    }

    /// The directory for temporary files.
    fn tmp(&self) -> SysResult<Arc<OwnedFd>> {
        let mut held = self.tmp.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tmp) = &*held {
            return Ok(Arc::clone(tmp));
        }
        Ok(Arc::clone(held.insert(Arc::new(aside::open_tmp(&self.dir)?))))
    }

    fn reopen_tmp(&self) -> SysResult<Arc<OwnedFd>> {
        self.tmp.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.tmp()
    }

    /// Only before this process has files of its own there.
    fn clean(&self) -> Result<(), Fault> {
        let mut held = self.tmp.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            let tmp = aside::open_tmp(&self.dir)?;
            aside::clean(&tmp)?;
            *held = Some(Arc::new(tmp));
        }
        Ok(())
    }
}

/// Version and patch level; 0.0 if it cannot be told.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests;
