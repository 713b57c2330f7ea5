//! A store with faults: each call may fail before or after it took effect, take long, answer late, give less than it should,
//! or be the last one of its process. Between any two calls, and between two pieces of a body or a listing, clients go on
//! working at the source.

use crate::sim::{Fate, Side, Sim};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use syncd::store::mem::Memory;
use syncd::store::{Body, Capabilities, Chunk, ErrorKind, Listed, Meta, Read, Store, StoreError};
use syncd_parsers::RelPath;

pub type Snapshot = BTreeMap<RelPath, (Meta, Bytes)>;

/// How long a store that hangs takes to say that it did not answer.
const HANG: Duration = Duration::from_secs(60);

pub struct Faulty {
    pub inner: Memory,
    pub side: Side,
    pub sim: Arc<Sim>,
    /// What the store held when it was made durable last, and after each change since.
    journal: Mutex<Vec<Snapshot>>,
}

impl Faulty {
    pub fn new(inner: Memory, side: Side, sim: &Arc<Sim>) -> Arc<Self> {
        let journal = Mutex::new(vec![inner.snapshot()]);
        Arc::new(Self { inner, side, sim: sim.clone(), journal })
    }

    fn journal(&self) -> MutexGuard<'_, Vec<Snapshot>> {
        self.journal.lock().expect("no panic holds it")
    }

    /// Changes since the last sync.
    pub fn unsynced(&self) -> usize {
        self.journal().len() - 1
    }

    /// Of the changes since the last sync only the first `left` stay, as in a file system that writes its journal in order.
    pub fn lose_unsynced(&self, left: usize) {
        let mut journal = self.journal();
        journal.truncate(left + 1);
        self.inner.restore(journal.last().expect("the last sync is there"));
        journal.drain(..left);
    }

    /// As if the last sync had not happened, nor what was written before it been durable.
    pub fn forget_sync(&self) {
        self.journal().insert(0, Snapshot::new());
    }

    async fn call<T>(
        &self,
        op: &'static str,
        at: &RelPath,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let fate = self.sim.meet(self.side, op, at);
        self.meet(fate, op, at, work).await
    }

    async fn meet<T>(
        &self,
        fate: Fate,
        op: &'static str,
        at: &RelPath,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let error = |kind| Err(StoreError::new(op, at, kind).because("simulated"));
        match fate {
            Fate::Well { after } => {
                tokio::time::sleep(after).await;
                let done = work.await;
                self.effect(op);
                done
            }
            Fate::Fails(kind) => error(kind),
            Fate::FailsAfterwards(kind) => {
                let done = work.await;
                self.effect(op);
                done.and(error(kind))
            }
            Fate::Hangs { effect } => {
                if effect {
                    let done = work.await.map(drop);
                    self.effect(op);
                    done?;
                }
                tokio::time::sleep(HANG).await;
                error(ErrorKind::Unavailable)
            }
            Fate::Dies { effect } => {
                if effect {
                    drop(work.await);
                    self.effect(op);
                }
                self.sim.die();
                std::future::pending().await
            }
            Fate::Dead => std::future::pending().await,
        }
    }

    fn effect(&self, op: &'static str) {
        let changes = ["put", "put_link", "mkdir", "set_attrs", "remove", "remove_tree", "rename"];
        if changes.contains(&op) {
            let now = self.inner.snapshot();
            self.sim.changed(self.side, &now);
            self.journal().push(now);
        } else if op == "sync" {
            let mut journal = self.journal();
            let last = journal.len() - 1;
            journal.drain(..last);
        }
    }

    async fn piece(&self, op: &'static str, at: &RelPath) -> Result<(), StoreError> {
        let fate = self.sim.meet_piece(self.side, at);
        self.meet(fate, op, at, async { Ok(()) }).await
    }

    /// In pieces, and ends with an error if the file is another one by then.
    fn in_pieces(
        self: Arc<Self>,
        at: &RelPath,
        meta: &Meta,
        bytes: Bytes,
    ) -> BoxStream<'static, Result<Chunk, StoreError>> {
        let keep = self.sim.cut(bytes.len());
        let (at, tag) = (at.clone(), meta.tag.clone());
        let state = (self, bytes.slice(..keep), keep == bytes.len());
        stream::try_unfold(state, move |(store, mut bytes, whole)| {
            let (at, tag) = (at.clone(), tag.clone());
            async move {
                store.piece("read", &at).await?;
                if bytes.is_empty() {
                    let now = store.inner.lookup(&at).await?.and_then(|meta| meta.tag);
                    let changed = whole && now != tag;
                    return if changed { Err(StoreError::new("read", &at, ErrorKind::Changed)) } else { Ok(None) };
                }
                let some = bytes.split_to(bytes.len().min(5));
                Ok(Some((Chunk::Data(some), (store, bytes, whole))))
            }
        })
        .boxed()
    }

    async fn listed(&self, dir: &RelPath) -> Result<Vec<Listed>, StoreError> {
        let all = self.inner.list(dir).try_collect::<Vec<_>>();
        let all = self.call("list", dir, all).await?;
        self.sim.listed(self.side, dir, all.iter());
        Ok(all.into_iter().filter(|entry| !self.sim.hides(self.side, dir, entry)).collect())
    }
}

/// The store that a job gets: faults, and bodies that outlive the call.
pub struct Handle(pub Arc<Faulty>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Handle {
    fn capabilities(&self) -> &Capabilities {
        self.0.inner.capabilities()
    }

    async fn identity(&self) -> Result<String, StoreError> {
        self.0.call("identity", &RelPath::root(), self.0.inner.identity()).await
    }

    async fn create_root(&self) -> Result<(), StoreError> {
        self.0.call("create_root", &RelPath::root(), self.0.inner.create_root()).await
    }

    async fn lookup(&self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        let found = self.0.call("lookup", path, self.0.inner.lookup(path)).await?;
        self.0.sim.looked(self.0.side, path, found.as_ref());
        Ok(found)
    }

    fn list<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>> {
        let (store, dir) = (&*self.0, dir.clone());
        let entries = async move {
            let entries = store.listed(&dir).await?.into_iter();
            Ok(stream::try_unfold((entries, dir), move |(mut entries, dir)| async move {
                let Some(entry) = entries.next() else { return Ok(None) };
                store.piece("list", &dir).await?;
                Ok(Some((entry, (entries, dir))))
            }))
        };
        entries.try_flatten_stream().boxed()
    }

    async fn read(&self, path: &RelPath, seen: &Meta) -> Result<Read, StoreError> {
        let Read { meta, body } = self.0.call("read", path, self.0.inner.read(path, seen)).await?;
        let Body::Whole(bytes) = body else { panic!("simulated files are small") };
        let body = Body::Stream(self.0.clone().in_pieces(path, &meta, bytes));
        Ok(Read { meta, body })
    }

    async fn read_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let bytes = self.0.call("read_range", path, self.0.inner.read_range(path, offset, len)).await?;
        let (store, path) = (self.0.clone(), path.clone());
        let end = async move { store.piece("read_range", &path).await.map(|()| Bytes::new()) };
        Ok(stream::once(end).chain(bytes).boxed())
    }

    async fn is_open(&self, path: &RelPath, seen: &Meta) -> Result<bool, StoreError> {
        self.0.call("is_open", path, self.0.inner.is_open(path, seen)).await
    }

    async fn put(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError> {
        self.0.call("put", path, self.0.inner.put(path, meta, body)).await
    }

    async fn put_link(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.0.call("put_link", path, self.0.inner.put_link(path, meta)).await
    }

    async fn mkdir(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.0.call("mkdir", path, self.0.inner.mkdir(path, meta)).await
    }

    async fn set_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.0.call("set_attrs", path, self.0.inner.set_attrs(path, meta)).await
    }

    async fn remove(&self, files: &[RelPath]) -> Result<(), StoreError> {
        files.iter().for_each(|path| self.0.sim.removes(self.0.side, path, &self.0.inner));
        let at = files.first().cloned().unwrap_or_default();
        self.0.call("remove", &at, self.0.inner.remove(files)).await
    }

    async fn remove_tree(&self, path: &RelPath) -> Result<(), StoreError> {
        self.0.sim.removes(self.0.side, path, &self.0.inner);
        self.0.call("remove_tree", path, self.0.inner.remove_tree(path)).await
    }

    async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        self.0.call("rename", from, self.0.inner.rename(from, to)).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.0.call("sync", &RelPath::root(), self.0.inner.sync()).await
    }
}

/// What stands at a path of a memory, which does not wait.
pub fn peek(store: &Memory, at: &RelPath) -> Option<Meta> {
    store.lookup(at).now_or_never().expect("memory does not wait").expect("nothing fails here")
}
