//! A store that counts the calls made to another one: what a pass cost, and proof that an idle one costs nothing.

use super::{Body, Capabilities, Listed, Meta, Read, Store, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use syncd_parsers::RelPath;

/// Calls by what they ask of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Is the root still the root.
    pub health: u64,
    pub looks: u64,
    pub lists: u64,
    pub listed_entries: u64,
    pub reads: u64,
    pub writes: u64,
    pub renames: u64,
    pub removals: u64,
}

impl Calls {
    /// All but health checks.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.looks + self.lists + self.reads + self.writes + self.renames + self.removals
    }
}

/// Counts what goes to the store within.
pub struct Counted {
    store: Arc<dyn Store>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    health: AtomicU64,
    looks: AtomicU64,
    lists: AtomicU64,
    listed_entries: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    renames: AtomicU64,
    removals: AtomicU64,
}

impl Counted {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, counters: Arc::default() }
    }

    /// The calls since this was made or last asked.
    pub fn take(&self) -> Calls {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let counters = &self.counters;
        Calls {
            health: take(&counters.health),
            looks: take(&counters.looks),
            lists: take(&counters.lists),
            listed_entries: take(&counters.listed_entries),
            reads: take(&counters.reads),
            writes: take(&counters.writes),
            renames: take(&counters.renames),
            removals: take(&counters.removals),
        }
    }
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for Counted {
    fn capabilities(&self) -> &Capabilities {
        self.store.capabilities()
    }

    async fn identity(&self) -> Result<String, StoreError> {
        one(&self.counters.health);
        self.store.identity().await
    }

    async fn create_root(&self) -> Result<(), StoreError> {
        one(&self.counters.writes);
        self.store.create_root().await
    }

    async fn lookup(&self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        one(&self.counters.looks);
        self.store.lookup(path).await
    }

    fn list<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>> {
        one(&self.counters.lists);
        self.store.list(dir).inspect(|_| one(&self.counters.listed_entries)).boxed()
    }

    async fn read(&self, path: &RelPath, seen: &Meta) -> Result<Read, StoreError> {
        one(&self.counters.reads);
        self.store.read(path, seen).await
    }

    async fn read_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        one(&self.counters.reads);
        self.store.read_range(path, offset, len).await
    }

    async fn is_open(&self, path: &RelPath, seen: &Meta) -> Result<bool, StoreError> {
        one(&self.counters.looks);
        self.store.is_open(path, seen).await
    }

    async fn put(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError> {
        one(&self.counters.writes);
        self.store.put(path, meta, body).await
    }

    async fn put_link(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        one(&self.counters.writes);
        self.store.put_link(path, meta).await
    }

    async fn mkdir(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        one(&self.counters.writes);
        self.store.mkdir(path, meta).await
    }

    async fn set_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        one(&self.counters.writes);
        self.store.set_attrs(path, meta).await
    }

    async fn remove(&self, files: &[RelPath]) -> Result<(), StoreError> {
        one(&self.counters.removals);
        self.store.remove(files).await
    }

    async fn remove_tree(&self, path: &RelPath) -> Result<(), StoreError> {
        one(&self.counters.removals);
        self.store.remove_tree(path).await
    }

    async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        one(&self.counters.renames);
        self.store.rename(from, to).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.store.sync().await
    }
}
