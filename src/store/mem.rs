//! `Memory`, the reference store: the contract of [`Store`] over a map, with a clock that stands until it is set. For tests it also
//! counts calls, fails when told to, and plays the tricks of real stores. Leaves every decision about what is kept to the caller.

use super::{
    Body, Capabilities, Chunk, ErrorKind, Kind, Listed, Meta, Named, Odd, Owner, Owners, RESERVED, Read, Rename, Store,
    StoreError, Time,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use syncd_parsers::RelPath;

/// Files up to this size are read whole, larger ones in pieces of it.
const PIECE_BYTES: usize = 1 << 20;

/// A store in memory. Clones are the same store.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

/// How often each method was called; `list` and `remove` count one call each, `listed` and `removed` what it was about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    pub identity: u64,
    pub create_root: u64,
    pub lookup: u64,
    pub list: u64,
    /// Entries that listings gave out, odd ones too.
    pub listed: u64,
    pub read: u64,
    pub read_bytes: u64,
    pub read_range: u64,
    pub is_open: u64,
    pub put: u64,
    pub put_bytes: u64,
    pub put_link: u64,
    pub mkdir: u64,
    pub set_attrs: u64,
    pub remove: u64,
    pub removed: u64,
    pub remove_tree: u64,
    pub rename: u64,
    pub sync: u64,
}

impl Memory {
    /// A store that behaves like a POSIX tree and keeps everything.
    #[must_use]
    pub fn tree() -> Self {
        Self::with(Capabilities {
            name: "memory",
            tree: true,
            rename: Rename::Native,
            time_unit: Some(Duration::from_nanos(1)),
            dir_times: true,
            modes: true,
            owner_access: false,
            owners: Owners::Ids,
            symlinks: true,
            listed_per_lookup: 1,
        })
    }

    /// A store that behaves like a bucket: each key stands for itself, needs no parent and may be a prefix as well;
    /// a listing shows less than a look.
    #[must_use]
    pub fn flat() -> Self {
        Self::with(Capabilities {
            tree: false,
            rename: Rename::Copying,
            dir_times: false,
            symlinks: false,
            listed_per_lookup: 1000,
            ..Self::tree().shared.capabilities.clone()
        })
    }

    /// A store that can and keeps what `capabilities` say, with an empty root.
    #[must_use]
    pub fn with(capabilities: Capabilities) -> Self {
        static STORES: AtomicU64 = AtomicU64::new(1);
        let root = Node { meta: Meta { tag: Some("0".into()), ..Meta::dir() }, bytes: Bytes::new() };
        let state = State {
            nodes: BTreeMap::from([(RelPath::root(), root)]),
            identity: format!("memory:{}", STORES.fetch_add(1, Ordering::Relaxed)),
            ..State::default()
        };
        Self { shared: Arc::new(Shared { capabilities, state: Mutex::new(state), hook: Mutex::new(None) }) }
    }

    /// The calls since the last reset.
    #[must_use]
    pub fn calls(&self) -> Calls {
        self.shared.state().calls
    }

    pub fn reset_calls(&self) {
        self.shared.state().calls = Calls::default();
    }

    /// Makes the next call of method `op` at `path` (of a rename, its old name) fail. Several may wait.
    pub fn fail_next(&self, op: &'static str, path: &RelPath, kind: ErrorKind) {
        self.shared.state().failures.push((op, path.clone(), kind));
    }

    /// Calls `hook` before every call, with the method and the path (once for each path of a `remove`), and as `piece` before
    /// each piece of a large file that is read; an answer is the call's failure.
    ///
    /// The hook may change the store with [`Memory::write`] and its like, and must not await its methods.
    pub fn on_call(&self, hook: impl FnMut(&str, &RelPath) -> Option<ErrorKind> + Send + 'static) {
        *self.shared.hook() = Some(Box::new(hook));
    }

    /// What changes get as their time from now on, where they bring none.
    pub fn set_clock(&self, now: Time) {
        self.shared.state().clock_nanos = now.0;
    }

    /// As if another root had been put in the place of this one.
    pub fn set_identity(&self, identity: &str) {
        self.shared.state().identity = identity.to_owned();
    }

    /// Whether a writer has the file open: it is not read then.
    pub fn set_open(&self, path: &RelPath, open: bool) {
        let mut state = self.shared.state();
        if open {
            state.open.insert(path.clone())
        } else {
            state.open.remove(path)
        };
    }

    /// Listings leave `path` out, though a look finds it (seen with MinIO).
    pub fn hide_from_list(&self, path: &RelPath) {
        self.shared.state().hidden.insert(path.clone());
    }

    /// Listings of `dir` show `odd` too.
    pub fn add_odd(&self, dir: &RelPath, odd: Odd) {
        self.shared.state().odd.push((dir.clone(), odd));
    }

    /// What a writer does who is not syncd: a file with its missing parents, at the clock's time. Not counted.
    pub fn write(&self, path: &RelPath, bytes: impl Into<Bytes>) {
        self.make_dirs(path.parent().as_ref().unwrap_or(path));
        self.edit(|state, can| state.place(can, path, &Meta::file(0), bytes.into()));
    }

    /// A directory with its missing parents. Not counted.
    pub fn make_dirs(&self, path: &RelPath) {
        let missing: Vec<_> = path.ancestors().collect();
        for dir in missing.iter().rev() {
            if !self.shared.state().is_dir(dir) {
                self.edit(|state, can| state.place(can, dir, &Meta::dir(), Bytes::new()));
            }
        }
    }

    /// A symbolic link with its missing parents, over whatever is there. Not counted.
    pub fn link(&self, path: &RelPath, target: &str) {
        self.make_dirs(path.parent().as_ref().unwrap_or(path));
        let meta = Meta { kind: Kind::Symlink, target: Some(target.into()), ..Meta::file(0) };
        self.edit(|state, can| state.place(can, path, &meta, Bytes::new()));
    }

    /// What a look shows. Not counted.
    #[must_use]
    pub fn peek(&self, path: &RelPath) -> Option<Meta> {
        self.shared.state().look(path)
    }

    /// A writer's chmod of what stands at `path`. Not counted.
    pub fn set_mode(&self, path: &RelPath, mode: u32) {
        self.edit(|state, _| {
            if let Some(node) = state.nodes.get_mut(path) {
                node.meta.mode = Some(mode);
            }
        });
    }

    /// A user's `touch -d` of what stands at `path`. Not counted.
    pub fn set_time(&self, path: &RelPath, time: Time) {
        self.edit(|state, _| {
            if let Some(node) = state.nodes.get_mut(path) {
                node.meta.mtime = Some(time);
            }
        });
    }

    /// Removes what stands at `path` and everything below it. Not counted.
    pub fn delete(&self, path: &RelPath) {
        self.edit(|state, can| state.take(can, path));
    }

    /// Moves what stands at `from`, with everything below it, to `to`, over what stands there. Not counted.
    pub fn move_over(&self, from: &RelPath, to: &RelPath) {
        self.edit(|state, can| {
            state.take(can, to);
            state.move_all(can, from, to);
        });
    }

    /// All that the store holds but its root, in the order of a walk.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<RelPath, (Meta, Bytes)> {
        let state = self.shared.state();
        let nodes = state.nodes.iter().filter(|(path, _)| !path.is_root());
        nodes.map(|(path, node)| (path.clone(), (node.meta.clone(), node.bytes.clone()))).collect()
    }

    /// Takes the store back to a snapshot, as a power cut does with what was not made durable. Not counted.
    pub fn restore(&self, snapshot: &BTreeMap<RelPath, (Meta, Bytes)>) {
        self.edit(|state, _| {
            state.nodes.retain(|path, _| path.is_root());
            let nodes = snapshot.iter().map(|(path, (meta, bytes))| (path.clone(), meta.clone(), bytes.clone()));
            state.nodes.extend(nodes.map(|(path, meta, bytes)| (path, Node { meta, bytes })));
        });
    }

    fn edit<T>(&self, change: impl FnOnce(&mut State, &Capabilities) -> T) -> T {
        change(&mut self.shared.state(), &self.shared.capabilities)
    }

    /// Counts a call, asks the hook, and then runs `call` on the state.
    fn call<T>(
        &self,
        op: &'static str,
        path: &RelPath,
        call: impl FnOnce(&mut State, &Capabilities) -> Result<T, Refusal>,
    ) -> Result<T, StoreError> {
        self.shared.may_fail(op, path)?;
        self.edit(call).map_err(|(kind, cause)| StoreError::new(op, path, kind).because(cause))
    }

    fn count(&self, counter: impl FnOnce(&mut Calls)) {
        counter(&mut self.shared.state().calls);
    }
}

#[async_trait]
impl Store for Memory {
    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.count(|calls| calls.identity += 1);
        self.call("identity", &RelPath::root(), |state, _| Ok(state.identity.clone()))
    }

    async fn create_root(&self) -> Result<(), StoreError> {
        self.count(|calls| calls.create_root += 1);
        self.call("create_root", &RelPath::root(), |_, _| Ok(()))
    }

    async fn lookup(&self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        self.count(|calls| calls.lookup += 1);
        self.call("lookup", path, |state, _| Ok(state.look(path)))
    }

    fn list<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>> {
        let dir = dir.clone();
        let entries = async move {
            self.count(|calls| calls.list += 1);
            let entries = self.call("list", &dir, |state, can| state.list(can, &dir))?;
            Ok(stream::iter(entries).map(Ok).inspect(|_| self.count(|calls| calls.listed += 1)))
        };
        stream::once(entries).try_flatten().boxed()
    }

    async fn read(&self, path: &RelPath, _seen: &Meta) -> Result<Read, StoreError> {
        self.count(|calls| calls.read += 1);
        let (meta, bytes) = self.call("read", path, |state, _| state.read(path))?;
        self.count(|calls| calls.read_bytes += bytes.len() as u64);
        let body = if bytes.len() <= PIECE_BYTES {
            Body::Whole(bytes)
        } else {
            Body::Stream(self.chunks(path, bytes).chain(self.proof(path, &meta)).boxed())
        };
        Ok(Read { meta, body })
    }

    async fn read_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        self.count(|calls| calls.read_range += 1);
        let (_, bytes) = self.call("read_range", path, |state, _| state.file(path))?;
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let range = bytes.slice(clamp(offset)..clamp(offset.saturating_add(len)));
        Ok(pieces(range).map(Ok).boxed())
    }

    async fn is_open(&self, path: &RelPath, _seen: &Meta) -> Result<bool, StoreError> {
        self.count(|calls| calls.is_open += 1);
        self.call("is_open", path, |state, _| Ok(state.open.contains(path)))
    }

    async fn put(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError> {
        self.count(|calls| calls.put += 1);
        let bytes = collect(body).await?;
        let len = bytes.len() as u64;
        let meta = Meta { kind: Kind::File, target: None, ..meta.clone() };
        self.call("put", path, |state, can| state.put(can, path, &meta, bytes))?;
        self.count(|calls| calls.put_bytes += len);
        Ok(())
    }

    async fn put_link(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.count(|calls| calls.put_link += 1);
        self.call("put_link", path, |state, can| {
            if !can.symlinks || meta.target.is_none() {
                return Err((ErrorKind::Unsupported, "no symbolic links"));
            }
            state.put(can, path, &Meta { kind: Kind::Symlink, ..meta.clone() }, Bytes::new())
        })
    }

    async fn mkdir(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.count(|calls| calls.mkdir += 1);
        let meta = Meta { kind: Kind::Dir, target: None, mtime: None, ..meta.clone() };
        self.call("mkdir", path, |state, can| state.mkdir(can, path, &meta))
    }

    async fn set_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.count(|calls| calls.set_attrs += 1);
        self.call("set_attrs", path, |state, can| state.set_attrs(can, path, meta))
    }

    async fn remove(&self, files: &[RelPath]) -> Result<(), StoreError> {
        self.count(|calls| (calls.remove, calls.removed) = (calls.remove + 1, calls.removed + files.len() as u64));
        files.iter().try_for_each(|path| self.call("remove", path, |state, can| state.remove(can, path)))
    }

    async fn remove_tree(&self, path: &RelPath) -> Result<(), StoreError> {
        self.count(|calls| calls.remove_tree += 1);
        self.call("remove_tree", path, |state, can| state.remove_tree(can, path))
    }

    async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        self.count(|calls| calls.rename += 1);
        self.call("rename", from, |state, can| state.rename(can, from, to))
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.count(|calls| calls.sync += 1);
        self.call("sync", &RelPath::root(), |_, _| Ok(()))
    }
}

impl Memory {
    fn chunks(&self, path: &RelPath, bytes: Bytes) -> impl futures::Stream<Item = Result<Chunk, StoreError>> + use<> {
        let (store, path) = (self.clone(), path.clone());
        pieces(bytes).map(move |piece| match store.shared.may_fail("piece", &path) {
            Ok(()) => Ok(Chunk::Data(piece)),
            Err(error) => Err(StoreError { op: "read", ..error }),
        })
    }

    /// Nothing, or an error if the file at `path` is no longer the version `meta`.
    fn proof(&self, path: &RelPath, meta: &Meta) -> impl futures::Stream<Item = Result<Chunk, StoreError>> + use<> {
        let (store, path, tag) = (self.clone(), path.clone(), meta.tag.clone());
        let check = async move {
            let now = store.shared.state().look(&path).and_then(|meta| meta.tag);
            (now != tag).then(|| Err(StoreError::new("read", &path, ErrorKind::Changed)))
        };
        stream::once(check).filter_map(std::future::ready)
    }
}

async fn collect(body: Body) -> Result<Bytes, StoreError> {
    let mut chunks = match body {
        Body::Whole(bytes) => return Ok(bytes),
        Body::Stream(chunks) => chunks,
    };
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        match chunk {
            Chunk::Data(data) => bytes.extend_from_slice(&data),
            Chunk::Hole(len) => bytes.resize(bytes.len() + usize::try_from(len).unwrap_or(usize::MAX), 0),
        }
    }
    Ok(bytes.freeze())
}

fn pieces(bytes: Bytes) -> impl futures::Stream<Item = Bytes> {
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    stream::iter(starts.map(move |start| bytes.slice(start..bytes.len().min(start + PIECE_BYTES))))
}

type Hook = Box<dyn FnMut(&str, &RelPath) -> Option<ErrorKind> + Send>;

/// Why the state does not do what it was asked for.
type Refusal = (ErrorKind, &'static str);

struct Shared {
    capabilities: Capabilities,
    state: Mutex<State>,
    /// Apart from the state, so that a hook may change the store.
    hook: Mutex<Option<Hook>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hook(&self) -> MutexGuard<'_, Option<Hook>> {
        self.hook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_fail(&self, op: &'static str, path: &RelPath) -> Result<(), StoreError> {
        let hooked = self.hook().as_mut().and_then(|hook| hook(op, path));
        match hooked.or_else(|| self.state().planned_failure(op, path)) {
            None => Ok(()),
            Some(kind) => Err(StoreError::new(op, path, kind).because("told to fail")),
        }
    }
}

struct Node {
    meta: Meta,
    bytes: Bytes,
}

/// What the store holds. In a tree every node but the root has a directory as its parent; in a flat
/// store a directory is there as a node or because something is below it.
#[derive(Default)]
struct State {
    nodes: BTreeMap<RelPath, Node>,
    identity: String,
    clock_nanos: i64,
    changes: u64,
    calls: Calls,
    failures: Vec<(&'static str, RelPath, ErrorKind)>,
    open: HashSet<RelPath>,
    hidden: HashSet<RelPath>,
    odd: Vec<(RelPath, Odd)>,
}

impl State {
    fn look(&self, path: &RelPath) -> Option<Meta> {
        match self.nodes.get(path) {
            Some(node) => Some(node.meta.clone()),
            None => self.has_below(path).then(Meta::dir),
        }
    }

    fn is_dir(&self, path: &RelPath) -> bool {
        self.look(path).is_some_and(|meta| meta.is_dir())
    }

    fn has_below(&self, path: &RelPath) -> bool {
        self.next_below(path, Excluded(path)).is_some()
    }

    fn next_below(&self, dir: &RelPath, from: std::ops::Bound<&RelPath>) -> Option<&RelPath> {
        let (path, _) = self.nodes.range((from, Unbounded)).next()?;
        path.is_within(dir).then_some(path)
    }

    /// Jumps over what is below each child.
    fn children(&self, dir: &RelPath) -> Vec<RelPath> {
        let mut children = Vec::new();
        let mut next = self.next_below(dir, Excluded(dir));
        while let Some(path) = next {
            let Some(child) = child_above(dir, path) else { break };
            next = self.next_below(dir, Included(&after(&child)));
            children.push(child);
        }
        children
    }

    fn list(&self, can: &Capabilities, dir: &RelPath) -> Result<Vec<Listed>, Refusal> {
        if !dir.is_root() && !self.is_dir(dir) && (can.tree || !self.has_below(dir)) {
            return Err((ErrorKind::NotFound, "no such directory"));
        }
        let reserved = |path: &RelPath| dir.is_root() && path.name() == RESERVED.as_bytes();
        let shown = self.children(dir).into_iter().filter(|path| !self.hidden.contains(path) && !reserved(path));
        let odd = self.odd.iter().filter(|(of, _)| of == dir).map(|(_, odd)| Listed::Odd(odd.clone()));
        Ok(shown.map(|path| self.listed(can, &path)).chain(odd).collect())
    }

    fn listed(&self, can: &Capabilities, path: &RelPath) -> Listed {
        let meta = self.look(path).unwrap_or_else(Meta::dir);
        let name = path.name().to_vec();
        if !meta.is_dir() && self.has_below(path) {
            return Listed::Odd(Odd { name, reason: "a key that is both an object and a prefix".into() });
        }
        let meta = if can.tree { meta } else { Meta { mtime: None, mode: None, owner: None, complete: false, ..meta } };
        Listed::Entry(Named { name, meta })
    }

    fn file(&self, path: &RelPath) -> Result<(Meta, Bytes), Refusal> {
        match self.nodes.get(path) {
            Some(node) if node.meta.kind == Kind::File => Ok((node.meta.clone(), node.bytes.clone())),
            Some(_) => Err((ErrorKind::Unsupported, "not a file")),
            None => Err((ErrorKind::NotFound, "no such file")),
        }
    }

    fn read(&self, path: &RelPath) -> Result<(Meta, Bytes), Refusal> {
        if self.open.contains(path) { Err((ErrorKind::Open, "a writer has it open")) } else { self.file(path) }
    }

    fn put(&mut self, can: &Capabilities, path: &RelPath, meta: &Meta, bytes: Bytes) -> Result<(), Refusal> {
        self.check_parent(can, path)?;
        if self.nodes.get(path).is_some_and(|node| node.meta.is_dir()) {
            return Err((ErrorKind::AlreadyExists, "a directory"));
        }
        self.place(can, path, meta, bytes);
        Ok(())
    }

    fn mkdir(&mut self, can: &Capabilities, path: &RelPath, meta: &Meta) -> Result<(), Refusal> {
        self.check_parent(can, path)?;
        match self.nodes.get(path) {
            Some(node) if node.meta.is_dir() => self.set_attrs(can, path, meta),
            Some(_) => Err((ErrorKind::AlreadyExists, "not a directory")),
            None => {
                self.place(can, path, meta, Bytes::new());
                Ok(())
            }
        }
    }

    fn set_attrs(&mut self, can: &Capabilities, path: &RelPath, meta: &Meta) -> Result<(), Refusal> {
        let tag = self.next_tag();
        let Some(node) = self.nodes.get_mut(path) else {
            return Err((ErrorKind::NotFound, "nothing to set attributes of"));
        };
        keep(can, &mut node.meta, meta);
        node.meta.tag = Some(tag);
        Ok(())
    }

    fn remove(&mut self, can: &Capabilities, path: &RelPath) -> Result<(), Refusal> {
        match self.nodes.get(path) {
            None => Ok(()),
            Some(node) if node.meta.is_dir() => Err((ErrorKind::Other, "a directory")),
            Some(_) => {
                self.nodes.remove(path);
                self.touch_parent(can, path);
                Ok(())
            }
        }
    }

    fn remove_tree(&mut self, can: &Capabilities, path: &RelPath) -> Result<(), Refusal> {
        if self.nodes.get(path).is_some_and(|node| !node.meta.is_dir()) {
            return Err((ErrorKind::Other, "not a directory"));
        }
        self.take(can, path);
        Ok(())
    }

    fn rename(&mut self, can: &Capabilities, from: &RelPath, to: &RelPath) -> Result<(), Refusal> {
        if self.look(from).is_none() {
            return Err((ErrorKind::NotFound, "nothing to rename"));
        }
        if self.look(to).is_some() {
            return Err((ErrorKind::AlreadyExists, "something is at the new name"));
        }
        if to.is_within(from) {
            return Err((ErrorKind::Unsupported, "the new name is below the old one"));
        }
        self.check_parent(can, to)?;
        self.move_all(can, from, to);
        Ok(())
    }

    fn check_parent(&self, can: &Capabilities, path: &RelPath) -> Result<(), Refusal> {
        match path.parent() {
            None => Err((ErrorKind::Unsupported, "the root itself")),
            Some(parent) if !can.tree || self.is_dir(&parent) => Ok(()),
            Some(parent) if self.look(&parent).is_none() => Err((ErrorKind::NotFound, "no parent directory")),
            Some(_) => Err((ErrorKind::Other, "the parent is not a directory")),
        }
    }

    /// Puts something at `path`, over whatever is there.
    fn place(&mut self, can: &Capabilities, path: &RelPath, meta: &Meta, bytes: Bytes) {
        let fresh = self.fresh(can, meta, bytes.len() as u64);
        self.nodes.insert(path.clone(), Node { meta: fresh, bytes });
        self.touch_parent(can, path);
    }

    fn fresh(&mut self, can: &Capabilities, meta: &Meta, len: u64) -> Meta {
        let mode = if meta.is_dir() { 0o755 } else { 0o644 };
        let mut fresh = Meta { kind: meta.kind, target: meta.target.clone(), ..Meta::file(len) };
        keep(can, &mut fresh, &Meta { mtime: Some(Time(self.clock_nanos)), mode: Some(mode), ..Meta::file(0) });
        keep(can, &mut fresh, meta);
        fresh.tag = Some(self.next_tag());
        fresh
    }

    /// Takes away what stands at `path` and all below it.
    fn take(&mut self, can: &Capabilities, path: &RelPath) -> Vec<(RelPath, Node)> {
        let within = self.nodes.range(path..).take_while(|(other, _)| other.is_within(path));
        let paths: Vec<RelPath> = within.map(|(path, _)| path.clone()).filter(|path| !path.is_root()).collect();
        if !paths.is_empty() {
            self.touch_parent(can, path);
        }
        paths.into_iter().filter_map(|path| self.nodes.remove_entry(&path)).collect()
    }

    fn move_all(&mut self, can: &Capabilities, from: &RelPath, to: &RelPath) {
        for (path, mut node) in self.take(can, from) {
            let Some(moved) = path.rebase(from, to) else { continue };
            if moved == *to {
                node.meta.tag = Some(self.next_tag());
            }
            self.nodes.insert(moved, node);
        }
        self.touch_parent(can, to);
    }

    /// As on POSIX, a directory's time is that of its last entry made or removed.
    fn touch_parent(&mut self, can: &Capabilities, path: &RelPath) {
        let Some(parent) = path.parent() else { return };
        let (tag, now) = (self.next_tag(), Time(self.clock_nanos));
        if let Some(node) = self.nodes.get_mut(&parent) {
            keep(can, &mut node.meta, &Meta { mtime: Some(now), ..Meta::dir() });
            node.meta.tag = Some(tag);
        }
    }

    fn next_tag(&mut self) -> String {
        self.changes += 1;
        self.changes.to_string()
    }

    fn planned_failure(&mut self, op: &str, path: &RelPath) -> Option<ErrorKind> {
        let at = self.failures.iter().position(|(of, at, _)| *of == op && at == path)?;
        Some(self.failures.remove(at).2)
    }
}

/// Takes over what `meta` brings and the store keeps.
fn keep(can: &Capabilities, kept: &mut Meta, meta: &Meta) {
    let unit = can.time_unit.filter(|_| can.dir_times || !kept.is_dir());
    if let (Some(time), Some(unit)) = (meta.mtime, unit) {
        kept.mtime = Some(floor(time, unit));
    }
    kept.mode = can.kept_mode(meta).or(kept.mode);
    if let (Owners::Ids, Some(Owner::Ids { .. })) | (Owners::Names, Some(Owner::Names { .. })) =
        (can.owners, &meta.owner)
    {
        kept.owner.clone_from(&meta.owner);
    }
}

fn floor(time: Time, unit: Duration) -> Time {
    let unit = i64::try_from(unit.as_nanos()).unwrap_or(i64::MAX).max(1);
    Time(time.0 - time.0.rem_euclid(unit))
}

/// The child of `dir` at or above `path`.
fn child_above(dir: &RelPath, path: &RelPath) -> Option<RelPath> {
    let first = path.below(dir)?.split(|byte| *byte == b'/').next()?;
    dir.join(first).ok()
}

/// The first path in the order of a walk that comes after everything below `path`.
fn after(path: &RelPath) -> RelPath {
    let bytes = [path.as_bytes(), b"\x01"].concat();
    RelPath::new(bytes).expect("a path stays one with a byte more at its end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{self, Limits};

    fn path(text: &str) -> RelPath {
        RelPath::new(text).expect(text)
    }

    async fn names(store: &Memory, dir: &str) -> Vec<String> {
        let dir = path(dir);
        let listed: Vec<_> = store.list(&dir).try_collect().await.expect("listed");
        let name = |listed| match listed {
            Listed::Entry(entry) => String::from_utf8_lossy(&entry.name).into_owned(),
            Listed::Odd(odd) => format!("odd {}", String::from_utf8_lossy(&odd.name)),
        };
        listed.into_iter().map(name).collect()
    }

    #[tokio::test]
    async fn a_tree_keeps_the_contract() {
        conformance::run(&Memory::tree(), &Limits::default()).await;
    }

    #[tokio::test]
    async fn a_flat_store_keeps_the_contract() {
        conformance::run(&Memory::flat(), &Limits::default()).await;
    }

    #[tokio::test]
    async fn a_store_that_keeps_little_keeps_the_contract() {
        let little = Capabilities {
            time_unit: Some(Duration::from_secs(2)),
            dir_times: false,
            modes: false,
            owner_access: false,
            owners: Owners::Names,
            symlinks: false,
            ..Memory::tree().capabilities().clone()
        };
        conformance::run(&Memory::with(little), &Limits::default()).await;
    }

    #[tokio::test]
    async fn a_store_whose_every_call_fails_never_says_that_nothing_is_there() {
        let store = Memory::tree();
        store.on_call(|_, _| Some(ErrorKind::Unavailable));
        conformance::run_out_of_reach(&store).await;
    }

    #[tokio::test]
    async fn calls_are_counted_until_reset() {
        let store = Memory::tree();
        store.write(&path("d/a"), "12345");
        store.write(&path("d/b"), "1");
        assert_eq!(store.calls(), Calls::default());
        assert_eq!(names(&store, "d").await, ["a", "b"]);
        store.remove(&[path("d/a"), path("d/b")]).await.expect("removed");
        store.put(&path("c"), &Meta::file(3), Body::Whole("123".into())).await.expect("put");
        let expected = Calls { list: 1, listed: 2, remove: 1, removed: 2, put: 1, put_bytes: 3, ..Calls::default() };
        assert_eq!(store.calls(), expected);
        store.reset_calls();
        assert_eq!(store.calls(), Calls::default());
    }

    #[tokio::test]
    async fn a_planned_failure_happens_once_and_only_there() {
        let store = Memory::tree();
        store.fail_next("lookup", &path("a"), ErrorKind::Throttled);
        assert!(store.lookup(&path("b")).await.is_ok());
        assert_eq!(store.lookup(&path("a")).await.map_err(|e| e.kind), Err(ErrorKind::Throttled));
        assert_eq!(store.lookup(&path("a")).await.map_err(|e| e.kind), Ok(None));
    }

    #[tokio::test]
    async fn a_hook_may_change_the_store_between_a_look_and_a_read() {
        let store = Memory::tree();
        store.write(&path("f"), "old");
        let writer = store.clone();
        store.on_call(move |op, path| {
            if op == "read" {
                writer.write(path, "newer");
            }
            None
        });
        let seen = store.lookup(&path("f")).await.expect("looked").expect("there");
        let read = store.read(&path("f"), &seen).await.expect("read");
        assert_eq!((seen.len, read.meta.len), (3, 5));
    }

    #[tokio::test]
    async fn a_large_file_that_changes_while_it_is_read_ends_with_changed() {
        let store = Memory::tree();
        store.write(&path("f"), vec![1; 3 * PIECE_BYTES]);
        let seen = store.lookup(&path("f")).await.expect("looked").expect("there");
        let mut chunks = store.read(&path("f"), &seen).await.expect("opened").body.into_stream();
        assert!(matches!(chunks.next().await, Some(Ok(Chunk::Data(_)))));
        store.write(&path("f"), vec![2; 3 * PIECE_BYTES]);
        let end: Result<Vec<_>, _> = chunks.try_collect().await;
        assert_eq!(end.err().map(|error| error.kind), Some(ErrorKind::Changed));
    }

    #[tokio::test]
    async fn an_open_file_is_not_read() {
        let store = Memory::tree();
        store.write(&path("f"), "x");
        store.set_open(&path("f"), true);
        let seen = store.lookup(&path("f")).await.expect("looked").expect("there");
        assert!(store.is_open(&path("f"), &seen).await.expect("asked"));
        assert_eq!(store.read(&path("f"), &seen).await.err().map(|e| e.kind), Some(ErrorKind::Open));
        store.set_open(&path("f"), false);
        assert!(store.read(&path("f"), &seen).await.is_ok());
    }

    #[tokio::test]
    async fn a_hidden_key_is_found_by_a_look_alone() {
        let store = Memory::flat();
        store.write(&path("d/a"), "x");
        store.write(&path("d/b"), "x");
        store.hide_from_list(&path("d/a"));
        assert_eq!(names(&store, "d").await, ["b"]);
        assert!(store.lookup(&path("d/a")).await.expect("looked").is_some());
    }

    #[tokio::test]
    async fn in_a_flat_store_a_key_that_is_a_prefix_too_is_odd_and_each_stands_for_itself() {
        let store = Memory::flat();
        for key in ["k", "k/below", "p/q/r"] {
            store.put(&path(key), &Meta::file(1), Body::Whole("x".into())).await.expect("put");
        }
        assert_eq!(names(&store, "").await, ["odd k", "p"]);
        store.remove(&[path("k"), path("p/q/r")]).await.expect("removed");
        assert!(store.lookup(&path("k/below")).await.expect("looked").is_some());
        assert_eq!(store.lookup(&path("p")).await.expect("looked"), None);
    }

    #[tokio::test]
    async fn a_change_takes_the_time_of_the_clock_and_passes_it_to_its_directory() {
        let store = Memory::tree();
        store.make_dirs(&path("d"));
        store.set_clock(Time(77));
        store.write(&path("d/f"), "x");
        for at in ["d", "d/f"] {
            let meta = store.lookup(&path(at)).await.expect("looked").expect("there");
            assert_eq!(meta.mtime, Some(Time(77)), "{at}");
        }
    }
}
