//! What a store is: few methods, one contract (`conformance.rs`), one file per store. Knows neither
//! changes nor names nor logs.
//!
//! Every answer tells *not found* from *could not tell*: a look-up that failed or timed out is an
//! error and never `None`.

pub mod conformance;
pub mod count;
pub mod hdfs;
pub mod local;
pub mod mem;
pub mod s3;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use syncd_parsers::RelPath;

/// What syncd keeps for itself below a destination root (files written aside, what a move displaced).
/// Never listed, never part of what is kept in step.
pub const RESERVED: &str = ".syncd";

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Dir,
    Symlink,
}

/// A point in time as stores keep it: nanoseconds since 1970 UTC, negative before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub i64);

/// Who owns a file. Numbers and names are different things, and are never compared with each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    Ids { uid: u32, gid: u32 },
    Names { user: String, group: String },
}

/// What one look at a path shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub kind: Kind,
    /// Bytes of a file; 0 for what is not a file.
    pub len: u64,
    pub mtime: Option<Time>,
    /// The twelve permission bits.
    pub mode: Option<u32>,
    pub owner: Option<Owner>,
    /// Where a symbolic link points, as its bytes say.
    pub target: Option<Vec<u8>>,
    /// Changes whenever the content may have changed; comparable only between two looks at one path of one store
    /// (an ETag, inode and ctime).
    pub tag: Option<String>,
    /// False where a listing shows less than a look-up would (S3 keeps times and modes where only HEAD
    /// shows them). `kind` and `len` always hold.
    pub complete: bool,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    Entry(Named),
    /// Something that is there but cannot be a path of a tree: `a//b`, a key that is both an object
    /// and a prefix, a device file.
    Odd(Odd),
}

/// A name in a directory and what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// One component, as bytes.
    pub name: Vec<u8>,
    pub meta: Meta,
}

/// What a listing found and no path can name, or no store but this one can hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Odd {
    /// The name within the listed directory as the store spells it; may hold slashes.
    pub name: Vec<u8>,
    pub reason: String,
}

/// The bytes of one whole version of a file.
pub struct Read {
    /// The version that the bytes are of.
    pub meta: Meta,
    pub body: Body,
}

/// Bytes on their way from a store to a store.
pub enum Body {
    /// All of them, already proven to be of one version.
    Whole(Bytes),
    /// In order, without gaps, `Meta::len` bytes in sum. The stream ends with [`ErrorKind::Changed`]
    /// unless the file is still the version that it was when reading began.
    Stream(BoxStream<'static, Result<Chunk, StoreError>>),
}

/// A piece of a file.
#[derive(Debug, Clone)]
pub enum Chunk {
    Data(Bytes),
    /// So many zero bytes, which a store that can leaves unwritten.
    Hole(u64),
}

/// What a store can hold and do. Values, not surprises.
#[derive(Debug, Clone)]
pub struct Capabilities {
    /// Words for messages: `local`, `s3`, `hdfs`, `memory`.
    pub name: &'static str,
    /// A parent that is not there proves that nothing is below it. False for flat stores, where each
    /// key stands for itself and a listing may hide it.
    pub tree: bool,
    pub rename: Rename,
    /// The unit in which file times are kept; `None` if the store keeps none that can be set.
    pub time_unit: Option<Duration>,
    /// Directories keep times that can be set.
    pub dir_times: bool,
    pub modes: bool,
    /// What is kept stays open to its owner, whom its own mode would lock out: who keeps it cannot override modes.
    pub owner_access: bool,
    pub owners: Owners,
    pub symlinks: bool,
    /// How many entries of a listing cost about as much as one look-up.
    pub listed_per_lookup: usize,
}

impl Capabilities {
    /// The mode in which something with these attributes is kept. Where its owner must not be locked out, a directory keeps
    /// `rwx` and a file `r` for the owner: files are replaced by renames, and read to be compared.
    #[must_use]
    pub fn kept_mode(&self, meta: &Meta) -> Option<u32> {
        let access = match meta.kind {
            _ if !self.owner_access => 0,
            Kind::Dir => 0o700,
            _ => 0o400,
        };
        meta.mode.filter(|_| self.modes).map(|mode| mode | access)
    }
}

/// How a store renames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// In one step, whatever is below.
    Native,
    /// Object by object, on the server: no byte travels, but it takes a request for each.
    Copying,
}

/// Which form of owner a store can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    None,
    Ids,
    Names,
    /// Either form, as it was given.
    Any,
}

/// A store of files below one root. All paths are relative to that root, and nothing outside it is ever touched.
///
/// Methods may be called from many tasks at once. A future that is dropped half way may or may not
/// have had its effect; `put` leaves either the old file or the new one, never a part.
#[async_trait]
pub trait Store: Send + Sync {
    fn capabilities(&self) -> &Capabilities;

    /// A text that stays the same while the root is the same root (the same file system and inode,
    /// the same bucket and prefix, the same directory of the same cluster), as far as the store can tell.
    /// Costs no more than a look-up or two; it is the health check too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is no such root.
    async fn identity(&self) -> Result<String, StoreError>;

    /// Makes the root (with its parents) if it is not there.
    async fn create_root(&self) -> Result<(), StoreError>;

    /// What stands at `path`, asked for by its own name; `None` only if the store answered that
    /// nothing is there, or that something above it is not a directory. Never follows a link.
    async fn lookup(&self, path: &RelPath) -> Result<Option<Meta>, StoreError>;

    /// What `dir` holds, in no particular order, each name once, as a stream that never keeps a whole large
    /// directory in memory. The reserved name at the root is left out.
    ///
    /// # Errors
    ///
    /// As an item of the stream, after which it ends; [`ErrorKind::NotFound`] if there is no such directory.
    fn list<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>>;

    /// Opens the file at `path`, which a look or a listing just showed as `seen`, and reads all of it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it is gone, [`ErrorKind::Changed`] if it is not one version from
    /// beginning to end (look again), [`ErrorKind::Open`] if a writer has it open and it may still grow.
    async fn read(&self, path: &RelPath, seen: &Meta) -> Result<Read, StoreError>;

    /// Reads `len` bytes from `offset`, fewer at the end of the file, nothing beyond it. For logs: no promise about versions.
    async fn read_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError>;

    /// True if a writer has the file open, so that its content may change without a further line in any log.
    /// Stores that show only finished files answer `false` without a request.
    async fn is_open(&self, path: &RelPath, seen: &Meta) -> Result<bool, StoreError>;

    /// Writes the file at `path` in one atomic step, over a file or link that may be there, with
    /// the times, mode and owner of `meta` as far as the store holds them. The parent directory exists.
    /// If the body ends with an error nothing becomes visible and that error is returned.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if this store cannot hold the name or the size.
    async fn put(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError>;

    /// Makes the symbolic link `meta.target` at `path`, over a file or link that may be there.
    async fn put_link(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError>;

    /// Makes the directory at `path`, with mode and owner of `meta`; well if it is there. The parent exists.
    async fn mkdir(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError>;

    /// Sets times, mode and owner as far as the store holds them, without touching content or following a link.
    async fn set_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError>;

    /// Removes files and links, in any order; well for those that are not there. Never a directory.
    async fn remove(&self, files: &[RelPath]) -> Result<(), StoreError>;

    /// Removes the directory at `path` with everything below it; well if it is not there. Never follows a link.
    async fn remove_tree(&self, path: &RelPath) -> Result<(), StoreError>;

    /// Moves what stands at `from` to `to`, with everything below it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AlreadyExists`] if something stands at `to`, [`ErrorKind::NotFound`] if nothing stands at `from`.
    async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError>;

    /// Returns once everything written through this store would survive a power cut.
    async fn sync(&self) -> Result<(), StoreError>;
}

/// A store operation that did not happen. Prints what and where; the cause is in `source()`.
#[derive(Debug, thiserror::Error)]
#[error("{op} {path}: {kind}")]
pub struct StoreError {
    pub op: &'static str,
    pub path: RelPath,
    pub kind: ErrorKind,
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// The store answered: nothing there.
    #[error("not found")]
    NotFound,
    #[error("something is already there")]
    AlreadyExists,
    /// The file changed while it was read: look again.
    #[error("changed while it was read")]
    Changed,
    /// A writer has the file open: it is not finished.
    #[error("still being written")]
    Open,
    #[error("permission denied")]
    PermissionDenied,
    #[error("the store asked to slow down")]
    Throttled,
    #[error("the store could not be reached or did not answer")]
    Unavailable,
    /// Cannot be held or done by this store, now or later.
    #[error("not possible on this store")]
    Unsupported,
    /// No space, or over a quota.
    #[error("no space left")]
    NoSpace,
    #[error("failed")]
    Other,
}

impl ErrorKind {
    /// True if the same call, made again shortly, could succeed. (After a change it takes another look first.)
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Throttled | Self::Unavailable => true,
            Self::NotFound
            | Self::AlreadyExists
            | Self::Changed
            | Self::Open
            | Self::PermissionDenied
            | Self::Unsupported
            | Self::NoSpace
            | Self::Other => false,
        }
    }
}

impl StoreError {
    pub fn new(op: &'static str, path: &RelPath, kind: ErrorKind) -> Self {
        Self { op, path: path.clone(), kind, cause: None }
    }

    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl Meta {
    /// A file of `len` bytes of which nothing else is known.
    #[must_use]
    pub fn file(len: u64) -> Self {
        Self { kind: Kind::File, len, mtime: None, mode: None, owner: None, target: None, tag: None, complete: true }
    }

    /// A directory of which nothing else is known.
    #[must_use]
    pub fn dir() -> Self {
        Self { kind: Kind::Dir, ..Self::file(0) }
    }

    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }

    /// True for a directory of a flat store that is there only because keys below it are.
    #[must_use]
    pub fn is_implied(&self) -> bool {
        *self == Self::dir()
    }
}

impl Chunk {
    /// Bytes of the file that it stands for.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty chunk is nothing special")]
    pub fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Hole(len) => *len,
        }
    }
}

impl Body {
    /// The body as one stream of chunks, whichever form it has; it may be asked again after its end, which not every
    /// stream that a store makes would bear.
    #[must_use]
    pub fn into_stream(self) -> BoxStream<'static, Result<Chunk, StoreError>> {
        match self {
            Self::Whole(bytes) => Box::pin(futures::stream::iter([Ok(Chunk::Data(bytes))])),
            Self::Stream(stream) => Box::pin(stream.fuse()),
        }
    }
}
