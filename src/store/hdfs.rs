//! HDFS as a store, over the NameNode's RPC (`hdfs-native`) and, for what that does not tell, WebHDFS. The only place
//! that names these. Everything is below one directory.
//!
//! HDFS logs that a file was opened for writing and never that it was closed, so whether it is open is asked
//! (`docs/formats/hdfs.md`). A lease is never recovered: that would close the file under its writer.

mod conf;
mod error;
mod webhdfs;

use super::{
    Body, Capabilities, Chunk, ErrorKind, Kind, Listed, Meta, Named, Owner, Owners, RESERVED, Read, Rename, Store,
    StoreError, Time,
};
use async_trait::async_trait;
use bytes::Bytes;
use conf::Conf;
use error::{kind_of, plain};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use hdfs_native::client::FileStatus;
use hdfs_native::file::{FileReader, FileWriter};
use hdfs_native::{Client, ClientBuilder, WriteOptions};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use syncd_parsers::RelPath;
use webhdfs::{WebError, WebHdfs};

/// One call to a NameNode or DataNode takes no longer. A NameNode that hangs must not hang us.
const CALL_MAX: Duration = Duration::from_secs(60);
/// A file up to this size is read whole before it is handed on.
const WHOLE_MAX: u64 = 1 << 20;
/// Removals under way at once.
const REMOVALS_MAX: usize = 32;
/// Written where a body has a hole: HDFS knows none.
const ZEROS: Bytes = Bytes::from_static(&[0; 64 << 10]);
/// By then a DataNode has mostly reported a finished block.
const REPORT_TAKES: Duration = Duration::from_millis(20);
/// Where files are written aside, below [`RESERVED`].
const TEMPORARY: &str = "tmp";
/// The value of [`HdfsOptions::http_address`] for a cluster without WebHDFS.
const NO_HTTP: &str = "none";
/// A time for `setTimes` that leaves the time as it is: -1 in Java.
const UNCHANGED: u64 = u64::MAX;
const NANOS_PER_MILLI: i64 = 1_000_000;
/// The defaults of Hadoop's clients.
const DIR_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// A directory of an HDFS cluster.
#[derive(Clone)]
pub struct Hdfs(Arc<Inner>);

/// How a cluster is reached, beyond its URI and Hadoop's own settings files.
#[derive(Debug, Clone, Default)]
pub struct HdfsOptions {
    /// `host:port` of the NameNode's HTTP server; by default what `hdfs-site.xml` says, or the host of the URI with
    /// port 9870. `none` does without: then the root's identity is its path alone, and a file whose length is a multiple
    /// of its block size cannot be told from one that is open, so that it is never read.
    pub http_address: Option<String>,
    /// By default `HADOOP_USER_NAME`, or the user of this process.
    pub user: Option<String>,
}

struct Inner {
    client: Client,
    web: Option<WebHdfs>,
    /// As the URI names the cluster.
    authority: String,
    /// Absolute, without a slash at its end: empty for the root of the cluster.
    root: String,
    /// Set once HDFS refused to change an owner: only its superuser may, and asking again is a call for nothing.
    owners_refused: AtomicBool,
    /// Tells this process's temporary files from those of others.
    salt: u64,
    serial: AtomicU64,
    capabilities: Capabilities,
}

impl Hdfs {
    /// Takes `hdfs://host:port/path`, `hdfs://nameservice/path` or `hdfs:///path` (the cluster of `fs.defaultFS`); the
    /// path stands for itself, without escapes. Settings come from `HADOOP_CONF_DIR`. Makes no call, and must run inside a `tokio` runtime.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if this is no such URI, or the settings cannot be used.
    pub fn connect(uri: &str, options: &HdfsOptions) -> Result<Self, StoreError> {
        let bad = |cause: Cause| StoreError::new("connect", &RelPath::root(), ErrorKind::Unsupported).because(cause);
        let conf = Conf::load().map_err(|e| bad(e.into()))?;
        let (authority, root) =
            split_uri(uri, &conf).ok_or_else(|| bad(format!("{uri} is not hdfs://host/path").into()))?;
        let client = build_client(&authority, options, &conf).map_err(|e| bad(plain(&e).into()))?;
        let web = build_web(&authority, options, &conf).map_err(|e| bad(e.into()))?;
        let inner = Inner {
            client,
            web,
            authority,
            root,
            owners_refused: AtomicBool::new(false),
            salt: RandomState::new().hash_one(std::process::id()),
            serial: AtomicU64::new(0),
            capabilities: capabilities(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// True for a name (one component) that HDFS cannot hold.
    #[must_use]
    pub fn refuses(name: &[u8]) -> bool {
        // `.snapshot` is a way into snapshots that no listing shows: never a part of the tree.
        std::str::from_utf8(name).is_err() || name.contains(&b':') || name == b".snapshot"
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn capabilities() -> Capabilities {
    Capabilities {
        name: "hdfs",
        tree: true,
        rename: Rename::Native,
        time_unit: Some(Duration::from_millis(1)),
        dir_times: true,
        modes: true,
        owner_access: false,
        owners: Owners::Names,
        symlinks: false,
        listed_per_lookup: 500,
    }
}

/// The authority, and the path without a slash at its end.
fn split_uri(uri: &str, conf: &Conf) -> Option<(String, String)> {
    let rest = uri.strip_prefix("hdfs://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    RelPath::new(path).ok()?;
    let root = if path.is_empty() { String::new() } else { format!("/{path}") };
    if !authority.is_empty() {
        return Some((authority.to_owned(), root));
    }
    let default = conf.get("fs.defaultFS")?.strip_prefix("hdfs://")?.trim_matches('/');
    (!default.is_empty()).then(|| (default.to_owned(), root))
}

fn build_client(authority: &str, options: &HdfsOptions, conf: &Conf) -> hdfs_native::Result<Client> {
    // An observer may answer with a state older than the log line that made us look.
    let provider = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider";
    let mut settings = vec![(format!("dfs.client.failover.proxy.provider.{authority}"), provider.to_owned())];
    // Each NameNode once more after a moment, then an error: to wait longer is up to the caller.
    let once_more = [
        ("dfs.client.failover.max.attempts", conf.namenodes_count(authority).to_string()),
        ("dfs.client.failover.sleep.base.millis", "100".to_owned()),
    ];
    let unset = once_more.into_iter().filter(|(key, _)| conf.get(key).is_none());
    settings.extend(unset.map(|(key, value)| (key.to_owned(), value)));
    let url = format!("hdfs://{}", conf.rpc_authority(authority));
    let builder = ClientBuilder::new().with_url(url).with_config(settings);
    match &options.user {
        Some(user) => builder.with_user(user).build(),
        None => builder.build(),
    }
}

fn build_web(authority: &str, options: &HdfsOptions, conf: &Conf) -> Result<Option<WebHdfs>, reqwest::Error> {
    let addresses = match options.http_address.as_deref() {
        Some(NO_HTTP) => return Ok(None),
        Some(address) => vec![address.trim_start_matches("http://").trim_end_matches('/').to_owned()],
        None => conf.http_addresses(authority),
    };
    let user = options.user.clone().or_else(|| std::env::var("HADOOP_USER_NAME").ok());
    WebHdfs::new(addresses, user.or_else(|| whoami::username().ok()).unwrap_or_default()).map(Some)
}

#[async_trait]
impl Store for Hdfs {
    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// With the number of the root's inode, which a directory made anew at the same path does not have. Needs WebHDFS, unless
    /// that was set to `none`: an identity that depended on whether it answers today would not be one.
    async fn identity(&self) -> Result<String, StoreError> {
        let (op, path) = ("identify", RelPath::root());
        let root = self.0.stat(op, &path).await?.filter(|status| status.isdir);
        root.ok_or_else(|| StoreError::new(op, &path, ErrorKind::NotFound))?;
        let place = format!("hdfs://{}{}", self.0.authority, self.0.absolute(""));
        let Some(web) = &self.0.web else { return Ok(place) };
        let id = web.file_id(&self.0.absolute("")).await.map_err(|e| unanswered(op, &path, e))?;
        Ok(format!("{place}#{id}"))
    }

    /// Also removes what earlier runs left half written.
    async fn create_root(&self) -> Result<(), StoreError> {
        let (op, path, root) = ("create", RelPath::root(), self.0.absolute(""));
        ask(op, &path, self.0.client.mkdirs(&root, DIR_MODE, true)).await?;
        ask(op, &path, self.0.client.delete(&self.0.absolute(&temporary()), true)).await?;
        Ok(())
    }

    async fn lookup(&self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        Ok(self.0.stat("look up", path).await?.map(|status| meta(&status)))
    }

    fn list<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>> {
        let (inner, dir) = (&self.0, dir.clone());
        stream::once(async move { inner.list(dir).await }).try_flatten().boxed()
    }

    async fn read(&self, path: &RelPath, seen: &Meta) -> Result<Read, StoreError> {
        let reader = self.0.open(path).await?;
        if reader.file_length() as u64 != seen.len {
            return Err(self.0.unlike(path, seen).await);
        }
        let body = match seen.len {
            ..=WHOLE_MAX => Body::Whole(self.0.whole(path, seen, &reader).await?),
            _ => Body::Stream(self.0.stream(path, seen, &reader).await?),
        };
        Ok(Read { meta: seen.clone(), body })
    }

    /// Of a file that is open, the last block cannot be read.
    async fn read_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let reader = self.0.open(path).await?;
        let end = reader.file_length() as u64;
        let from = offset.min(end);
        let until = offset.saturating_add(len).min(end);
        Ok(pieces("read", path.clone(), &reader, from, until.saturating_sub(from)))
    }

    async fn is_open(&self, path: &RelPath, seen: &Meta) -> Result<bool, StoreError> {
        self.0.is_open(path, seen.len).await
    }

    async fn put(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError> {
        let target = self.0.spelled("put", path)?;
        let aside = self.0.aside();
        let put = self.0.put(path, meta, body, &aside, &target).await;
        if put.is_err() {
            // Best effort: the error that matters is that of `put`, and `create_root` removes what is left.
            let _: Result<bool, StoreError> = ask("put", path, self.0.client.delete(&aside, false)).await;
        }
        put
    }

    async fn put_link(&self, path: &RelPath, _: &Meta) -> Result<(), StoreError> {
        Err(StoreError::new("link", path, ErrorKind::Unsupported))
    }

    async fn mkdir(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        let at = self.0.spelled("make directory", path)?;
        ask("make directory", path, self.0.client.mkdirs(&at, DIR_MODE, false)).await?;
        // What was there already has a mode of its own, and a mode asked for at creation is subject to default ACLs.
        self.0.set_mode("make directory", path, &at, meta).await?;
        self.0.set_owner("make directory", path, &at, meta).await
    }

    async fn set_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        let op = "set attributes of";
        let at = self.0.known(op, path)?;
        self.0.set_mode(op, path, &at, meta).await?;
        self.0.set_owner(op, path, &at, meta).await?;
        self.0.set_time(op, path, &at, meta).await
    }

    async fn remove(&self, files: &[RelPath]) -> Result<(), StoreError> {
        let removals = stream::iter(files.iter().cloned().map(|path| self.0.remove(path)));
        removals.buffer_unordered(REMOVALS_MAX).try_collect().await
    }

    async fn remove_tree(&self, path: &RelPath) -> Result<(), StoreError> {
        let op = "remove tree";
        match self.0.stat(op, path).await? {
            None => Ok(()),
            Some(status) if !status.isdir => {
                Err(StoreError::new(op, path, ErrorKind::Other).because("not a directory"))
            }
            Some(status) => ask(op, path, self.0.client.delete(&status.path, true)).await.map(|_| ()),
        }
    }

    async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        let op = "rename";
        let (source, target) = (self.0.known(op, from)?, self.0.spelled(op, to)?);
        // `rename2`, which unlike the old `rename` never moves into a directory.
        let renamed = ask(op, from, self.0.client.rename(&source, &target, false)).await;
        match renamed {
            // A file onto a directory, and the reverse, is an `IOException` like many others.
            Err(error) if error.kind == ErrorKind::Other && self.0.stat(op, to).await?.is_some() => {
                Err(StoreError { kind: ErrorKind::AlreadyExists, ..error })
            }
            renamed => renamed,
        }
    }

    /// A closed file is on its DataNodes' disks, and the NameNode answers once its journal is.
    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Inner {
    /// The absolute path of what is `below` the root.
    fn absolute(&self, below: &str) -> String {
        match (self.root.as_str(), below) {
            ("", "") => "/".to_owned(),
            (root, "") => root.to_owned(),
            (root, below) => format!("{root}/{below}"),
        }
    }

    /// How HDFS spells `path`; `None` if it can hold no such path, so that nothing stands there.
    fn spell(&self, path: &RelPath) -> Option<String> {
        let refused = path.components().any(Hdfs::refuses);
        let at = self.absolute(path.as_str().filter(|_| !refused)?);
        // Another view of the whole cluster, by inode numbers.
        let reserved = at == "/.reserved" || at.starts_with("/.reserved/");
        (!reserved).then_some(at)
    }

    fn spelled(&self, op: &'static str, path: &RelPath) -> Result<String, StoreError> {
        self.spell(path)
            .ok_or_else(|| StoreError::new(op, path, ErrorKind::Unsupported).because("a name that HDFS refuses"))
    }

    /// As `spelled`, for what should be there.
    fn known(&self, op: &'static str, path: &RelPath) -> Result<String, StoreError> {
        self.spell(path).ok_or_else(|| StoreError::new(op, path, ErrorKind::NotFound))
    }

    async fn stat(&self, op: &'static str, path: &RelPath) -> Result<Option<FileStatus>, StoreError> {
        let Some(at) = self.spell(path) else { return Ok(None) };
        match ask(op, path, self.client.get_file_info(&at)).await {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind == ErrorKind::PermissionDenied => self.below_a_file(op, path, error).await,
            Err(error) => Err(error),
        }
    }

    /// To users other than the superuser HDFS says of what is below a file that it is forbidden: the nearest ancestor
    /// that may be looked at decides.
    async fn below_a_file(
        &self,
        op: &'static str,
        path: &RelPath,
        denied: StoreError,
    ) -> Result<Option<FileStatus>, StoreError> {
        for at in path.ancestors().skip(1).filter_map(|ancestor| self.spell(&ancestor)) {
            match ask(op, path, self.client.get_file_info(&at)).await {
                Ok(status) if status.isdir => break,
                Ok(_) => return Ok(None),
                Err(error) if error.kind == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        Err(denied)
    }

    /// Looks first: HDFS lists a file as a directory that holds itself, and calls what is below a file forbidden.
    async fn list(
        self: &Arc<Self>,
        dir: RelPath,
    ) -> Result<BoxStream<'static, Result<Listed, StoreError>>, StoreError> {
        let found = self.stat("list", &dir).await?.filter(|status| status.isdir);
        let at = found.ok_or_else(|| StoreError::new("list", &dir, ErrorKind::NotFound))?.path;
        let entries = self.client.list_status_iter(&at, false);
        let listing = stream::try_unfold((self.clone(), entries, dir), |(inner, entries, dir)| async move {
            match ask("list", &dir, async { entries.next().await.transpose() }).await {
                Ok(next) => Ok(next.map(|status| (listed(&dir, &status), (inner, entries, dir)))),
                Err(error) => Err(inner.denied_or_gone(&dir, error).await),
            }
        });
        Ok(listing.try_filter_map(|entry| async move { Ok(entry) }).boxed())
    }

    async fn open(&self, path: &RelPath) -> Result<FileReader, StoreError> {
        let at = self.known("read", path)?;
        match ask("read", path, self.client.read(&at)).await {
            Err(error) => Err(self.denied_or_gone(path, error).await),
            reader => reader,
        }
    }

    /// The superuser, too, is told that what is below a file is forbidden, except by look-ups.
    async fn denied_or_gone(&self, path: &RelPath, error: StoreError) -> StoreError {
        if error.kind == ErrorKind::PermissionDenied && matches!(self.stat(error.op, path).await, Ok(None)) {
            return StoreError { kind: ErrorKind::NotFound, ..error };
        }
        error
    }

    /// The file at `path` has not the blocks that a closed file like `seen` would have.
    async fn unlike(&self, path: &RelPath, seen: &Meta) -> StoreError {
        match self.stat("read", path).await {
            Err(error) => error,
            Ok(None) => StoreError::new("read", path, ErrorKind::NotFound),
            Ok(Some(now)) if same_version(&now, seen) => StoreError::new("read", path, ErrorKind::Open),
            Ok(Some(_)) => StoreError::new("read", path, ErrorKind::Changed),
        }
    }

    async fn whole(&self, path: &RelPath, seen: &Meta, reader: &FileReader) -> Result<Bytes, StoreError> {
        let read: Result<Vec<Bytes>, _> = pieces("read", path.clone(), reader, 0, seen.len).try_collect().await;
        // First of all: blocks that cannot be read may be those of a file that is no more.
        self.prove_finished(path, seen).await?;
        let bytes = join(read?);
        if bytes.len() as u64 == seen.len { Ok(bytes) } else { Err(StoreError::new("read", path, ErrorKind::Changed)) }
    }

    async fn stream(
        self: &Arc<Self>,
        path: &RelPath,
        seen: &Meta,
        reader: &FileReader,
    ) -> Result<BoxStream<'static, Result<Chunk, StoreError>>, StoreError> {
        if self.is_open(path, seen.len).await? {
            return Err(StoreError::new("read", path, ErrorKind::Open));
        }
        let pieces = pieces("read", path.clone(), reader, 0, seen.len);
        let state = Streaming { inner: Arc::clone(self), path: path.clone(), seen: seen.clone(), pieces };
        Ok(stream::try_unfold(Some(state), |state| async move {
            let Some(state) = state else { return Ok(None) };
            state.next().await
        })
        .try_filter_map(|chunk| async move { Ok(chunk) })
        .boxed())
    }

    /// No writer has the file open, and then nothing that the look showed is different.
    ///
    /// In this order: a close changes the time, so a file that is closed and looks the same afterwards was closed all the
    /// while since `seen`. (The other way round it could close in between, with new bytes and no line to come.) A writer
    /// that opens it after the first question writes its line after it, too, and a later window holds that.
    async fn prove_finished(&self, path: &RelPath, seen: &Meta) -> Result<(), StoreError> {
        let changed = || StoreError::new("read", path, ErrorKind::Changed);
        match self.is_open(path, seen.len).await {
            Ok(false) => {}
            Ok(true) => return Err(StoreError::new("read", path, ErrorKind::Open)),
            Err(error) if error.kind == ErrorKind::NotFound => return Err(changed()),
            Err(error) => return Err(error),
        }
        let now = self.stat("read", path).await?;
        if now.is_some_and(|now| same_version(&now, seen)) { Ok(()) } else { Err(changed()) }
    }

    /// The same for a file that was closed when the read began.
    async fn prove_unchanged(&self, path: &RelPath, seen: &Meta) -> Result<(), StoreError> {
        self.prove_finished(path, seen).await.map_err(|error| match error.kind {
            ErrorKind::Open => StoreError { kind: ErrorKind::Changed, ..error },
            _ => error,
        })
    }

    async fn is_open(&self, path: &RelPath, len: u64) -> Result<bool, StoreError> {
        let at = self.known("ask whether open", path)?;
        let Some(web) = &self.web else { return self.looks_open(path).await };
        match web.is_under_construction(&at, len).await {
            Err(error) => Err(self.denied_or_gone(path, unanswered("ask whether open", path, error)).await),
            Ok(open) => Ok(open),
        }
    }

    /// What the RPC shows: a reader's length leaves out the last block while that is under construction. So an open file is
    /// longer than its reader says, unless its last block is complete and no other has begun: its length is then a
    /// multiple of the block size, which proves nothing. (A writer may end a block early, with `NEW_BLOCK` or `END_BLOCK`, and such an open
    /// file is taken for closed: reason enough to ask WebHDFS wherever that can be had.)
    async fn looks_open(&self, path: &RelPath) -> Result<bool, StoreError> {
        let op = "ask whether open";
        let finished = self.open(path).await?.file_length();
        let status = self.stat(op, path).await?.ok_or_else(|| StoreError::new(op, path, ErrorKind::NotFound))?;
        let block = status.blocksize.unwrap_or_default().max(1);
        match status.length {
            len if len > finished => Ok(true),
            len if (len as u64).is_multiple_of(block) => {
                let cause = "only WebHDFS can tell, and `http_address` is `none`";
                Err(StoreError::new(op, path, ErrorKind::Unavailable).because(cause))
            }
            _ => Ok(false),
        }
    }

    /// A new name for a file that is written aside.
    fn aside(&self) -> String {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.absolute(&format!("{}/{:016x}-{serial}", temporary(), self.salt))
    }

    async fn put(&self, path: &RelPath, meta: &Meta, body: Body, aside: &str, target: &str) -> Result<(), StoreError> {
        let mut writer = self.create(path, meta, aside).await?;
        write(path, &mut writer, meta.len, body).await?;
        ask("put", path, close(&mut writer)).await?;
        self.set_sticky(path, aside, meta).await?;
        self.set_owner("put", path, aside, meta).await?;
        self.set_time("put", path, aside, meta).await?;
        let renamed = ask("put", path, self.client.rename(aside, target, true)).await;
        match renamed {
            // A file onto a directory is an `IOException` like many others.
            Err(error) if self.stat("put", path).await?.is_some_and(|there| there.isdir) => {
                Err(StoreError { kind: ErrorKind::AlreadyExists, ..error })
            }
            renamed => renamed,
        }
    }

    /// Makes the directory for temporary files only when it turns out to be missing, and never the root: that one
    /// was removed is for `identity` to find.
    async fn create(&self, path: &RelPath, meta: &Meta, aside: &str) -> Result<FileWriter, StoreError> {
        let mode = meta.mode.unwrap_or(FILE_MODE) & 0o777;
        let options = WriteOptions::default().overwrite(true).create_parent(false).permission(mode);
        match ask("put", path, self.client.create(aside, &options)).await {
            Err(error) if error.kind == ErrorKind::NotFound => {
                for dir in [RESERVED.to_owned(), temporary()] {
                    ask("put", path, self.client.mkdirs(&self.absolute(&dir), DIR_MODE, false)).await?;
                }
                ask("put", path, self.client.create(aside, &options)).await
            }
            created => created,
        }
    }

    /// The one bit that cannot be given at creation.
    async fn set_sticky(&self, path: &RelPath, at: &str, meta: &Meta) -> Result<(), StoreError> {
        match meta.mode {
            Some(mode) if mode & 0o1000 != 0 => self.set_mode("put", path, at, meta).await,
            _ => Ok(()),
        }
    }

    async fn set_mode(&self, op: &'static str, path: &RelPath, at: &str, meta: &Meta) -> Result<(), StoreError> {
        match meta.mode {
            Some(mode) => ask(op, path, self.client.set_permission(at, mode & 0o1777)).await,
            None => Ok(()),
        }
    }

    async fn set_owner(&self, op: &'static str, path: &RelPath, at: &str, meta: &Meta) -> Result<(), StoreError> {
        let Some(Owner::Names { user, group }) = &meta.owner else { return Ok(()) };
        if self.owners_refused.load(Ordering::Relaxed) {
            return Ok(());
        }
        match ask(op, path, self.client.set_owner(at, Some(user), Some(group))).await {
            Err(error) if error.kind == ErrorKind::PermissionDenied => {
                if !self.owners_refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%path, "HDFS lets only its superuser set owners: they will not be kept");
                }
                Ok(())
            }
            set => set,
        }
    }

    /// HDFS ignores times before 1970.
    async fn set_time(&self, op: &'static str, path: &RelPath, at: &str, meta: &Meta) -> Result<(), StoreError> {
        let Some(Time(nanos)) = meta.mtime else { return Ok(()) };
        let millis = u64::try_from(nanos.div_euclid(NANOS_PER_MILLI)).unwrap_or(0);
        ask(op, path, self.client.set_times(at, millis, UNCHANGED)).await
    }

    /// HDFS removes an empty directory as readily as a file, so it is looked at first. A directory that takes the
    /// file's place between the look and the removal is removed if it is empty; nothing but syncd writes here.
    async fn remove(&self, path: RelPath) -> Result<(), StoreError> {
        match self.stat("remove", &path).await? {
            None => Ok(()),
            Some(status) if status.isdir => {
                Err(StoreError::new("remove", &path, ErrorKind::Other).because("a directory"))
            }
            Some(status) => ask("remove", &path, self.client.delete(&status.path, false)).await.map(|_| ()),
        }
    }
}

/// A large file on its way.
struct Streaming {
    inner: Arc<Inner>,
    path: RelPath,
    seen: Meta,
    pieces: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl Streaming {
    /// The next chunk; at the end of the file nothing, once it is proven that the bytes were of one version.
    async fn next(mut self) -> Result<Option<(Option<Chunk>, Option<Self>)>, StoreError> {
        match self.pieces.next().await {
            Some(Ok(piece)) => Ok(Some((Some(Chunk::Data(piece)), Some(self)))),
            Some(Err(error)) => {
                self.inner.prove_unchanged(&self.path, &self.seen).await?;
                Err(error)
            }
            None => {
                self.inner.prove_unchanged(&self.path, &self.seen).await?;
                Ok(Some((None, None)))
            }
        }
    }
}

fn temporary() -> String {
    format!("{RESERVED}/{TEMPORARY}")
}

/// Waits for an answer, for as long as one may take.
async fn ask<T>(
    op: &'static str,
    path: &RelPath,
    call: impl Future<Output = hdfs_native::Result<T>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL_MAX, call).await {
        Ok(answer) => answer.map_err(|error| StoreError::new(op, path, kind_of(&error)).because(plain(&error))),
        Err(_) => {
            let cause = format!("no answer within {} s", CALL_MAX.as_secs());
            Err(StoreError::new(op, path, ErrorKind::Unavailable).because(cause))
        }
    }
}

fn unanswered(op: &'static str, path: &RelPath, error: WebError) -> StoreError {
    StoreError::new(op, path, error.kind).because(error)
}

/// `len` bytes from `offset`, none of them beyond the end of the file, as they come from the DataNodes.
fn pieces(
    op: &'static str,
    path: RelPath,
    reader: &FileReader,
    offset: u64,
    len: u64,
) -> BoxStream<'static, Result<Bytes, StoreError>> {
    let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else {
        return stream::iter([Err(StoreError::new(op, &path, ErrorKind::Unsupported))]).boxed();
    };
    let bytes = reader.read_range_stream(offset, len).boxed();
    stream::try_unfold((bytes, path), move |(mut bytes, path)| async move {
        let next = ask(op, &path, bytes.try_next()).await?;
        Ok(next.map(|piece| (piece, (bytes, path))))
    })
    .boxed()
}

fn join(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() }
}

async fn write(path: &RelPath, writer: &mut FileWriter, len: u64, body: Body) -> Result<(), StoreError> {
    let mut chunks = body.into_stream();
    let mut written = 0;
    while let Some(chunk) = chunks.try_next().await? {
        written += match chunk {
            Chunk::Data(bytes) => ask("put", path, writer.write_bytes(bytes)).await? as u64,
            Chunk::Hole(zeros) => write_zeros(path, writer, zeros).await?,
        };
    }
    if written == len {
        return Ok(());
    }
    let cause = format!("the body has {written} bytes of {len}");
    Err(StoreError::new("put", path, ErrorKind::Changed).because(cause))
}

async fn write_zeros(path: &RelPath, writer: &mut FileWriter, zeros: u64) -> Result<u64, StoreError> {
    let mut left = zeros;
    while left > 0 {
        let now = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        left -= ask("put", path, writer.write_bytes(ZEROS.slice(..now))).await? as u64;
    }
    Ok(zeros)
}

/// The client asks the NameNode to complete the file as soon as the last packet is acknowledged, and then waits 0.5 s if the
/// DataNode's report of the block was not there first: mostly it was not. So the acknowledgement is left unread for a moment.
async fn close(writer: &mut FileWriter) -> hdfs_native::Result<()> {
    let mut close = std::pin::pin!(writer.close());
    match futures::poll!(close.as_mut()) {
        Poll::Ready(closed) => closed,
        Poll::Pending => {
            tokio::time::sleep(REPORT_TAKES).await;
            close.await
        }
    }
}

/// `None` for the reserved name at the root.
fn listed(dir: &RelPath, status: &FileStatus) -> Option<Listed> {
    let name = status.path.rsplit('/').next().unwrap_or_default();
    if dir.is_root() && name == RESERVED {
        return None;
    }
    Some(Listed::Entry(Named { name: name.as_bytes().to_vec(), meta: meta(status) }))
}

/// Without a tag: all that the RPC shows are length and times, and a writer can set the times.
fn meta(status: &FileStatus) -> Meta {
    let common = Meta {
        mtime: Some(mtime(status)),
        mode: Some(u32::from(status.permission) & 0o7777),
        owner: Some(Owner::Names { user: status.owner.clone(), group: status.group.clone() }),
        ..Meta::dir()
    };
    if status.isdir { common } else { Meta { kind: Kind::File, len: status.length as u64, ..common } }
}

fn mtime(status: &FileStatus) -> Time {
    let millis = i64::try_from(status.modification_time).unwrap_or(i64::MAX);
    Time(millis.saturating_mul(NANOS_PER_MILLI))
}

fn same_version(now: &FileStatus, seen: &Meta) -> bool {
    !now.isdir && now.length as u64 == seen.len && Some(mtime(now)) == seen.mtime
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[test]
    fn a_uri_is_a_cluster_and_a_plain_path() {
        let split = |uri: &str| split_uri(uri, &Conf::default());
        let parts = |authority: &str, root: &str| Some((authority.to_owned(), root.to_owned()));
        assert_eq!(split("hdfs://nn:8020/a b/%20/"), parts("nn:8020", "/a b/%20"));
        assert_eq!(split("hdfs://prod"), parts("prod", ""));
        assert_eq!(split("hdfs://prod/"), parts("prod", ""));
        for bad in ["hdfs:///a", "hdfs://", "s3://a/b", "/a", "hdfs://nn/a/../b", "hdfs://nn/a//b"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    fn store(uri: &str) -> Hdfs {
        let options = HdfsOptions { http_address: Some("127.0.0.1:1".into()), user: Some("me".into()) };
        Hdfs::connect(uri, &options).expect("connecting makes no call")
    }

    #[tokio::test]
    async fn names_that_hdfs_refuses_are_not_there_and_cannot_be_put() {
        let store = store("hdfs://127.0.0.1:1");
        for bad in [&b"a:b"[..], b"d/a\xff", b"d/.snapshot/s0/f", b".reserved/.inodes/16385"] {
            let path = RelPath::new(bad).expect("a path");
            assert_eq!(store.lookup(&path).await.expect("no call was made"), None, "{path}");
            let put = store.put(&path, &Meta::file(0), Body::Whole(Bytes::new())).await;
            assert_eq!(put.expect_err("refused").kind, ErrorKind::Unsupported, "{path}");
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_nothing_is_called_missing() {
        conformance::run_out_of_reach(&store("hdfs://127.0.0.1:1/root")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_namenode_that_hangs_is_unavailable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let uri = format!("hdfs://{}/root", listener.local_addr().expect("bound"));
        let look = store(&uri).lookup(&RelPath::root()).await;
        assert_eq!(look.expect_err("no answer").kind, ErrorKind::Unavailable);
    }

    #[test]
    fn a_time_keeps_its_millisecond() {
        let status = |modification_time| FileStatus {
            path: "/f".into(),
            length: 3,
            isdir: false,
            permission: 0o100_644 & 0o7777,
            owner: "o".into(),
            group: "g".into(),
            modification_time,
            access_time: 0,
            replication: None,
            blocksize: None,
        };
        let seen = meta(&status(1_700_000_000_123));
        assert_eq!(seen.mtime, Some(Time(1_700_000_000_123_000_000)));
        assert!(same_version(&status(1_700_000_000_123), &seen));
        assert!(!same_version(&status(1_700_000_000_124), &seen));
    }
}
