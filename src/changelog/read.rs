//! Reads the windows back: their chain, proven by digests, and their changes, as a stream.

use super::ChangelogError;
use super::manifest::{Manifest, VERSION, WindowName};
use crate::store::{ErrorKind, Listed, Store, StoreError};
use crate::tail::{hex, sha256};
use async_compression::tokio::bufread::ZstdDecoder;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use memchr::{memchr_iter, memrchr};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use syncd_parsers::{Change, RelPath, dialect};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

/// Up to this size the data of a window is proven whole before its first change is given out.
const WHOLE_BYTES: u64 = 8 << 20;

/// How much of the unpacked data is read at a time, about.
const TEXT_BYTES: u64 = 1 << 20;

/// How many of them are read while the changes of one are used.
const TEXTS_AHEAD: usize = 3;

const RESTORE: &str =
    "restore the file from a copy, or begin anew with an import or a verification and an empty change log directory";

/// The window that was applied last, as a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub seq: u64,
    pub manifest_sha256: String,
    pub to: DateTime<Utc>,
    /// What logs the window was made of; empty if an earlier version applied it.
    #[serde(default)]
    pub dialect: String,
    /// See [`Manifest::lateness_seconds`].
    #[serde(default)]
    pub lateness_seconds: u64,
}

impl Applied {
    #[must_use]
    pub fn of(manifest: &Manifest, manifest_sha256: &str) -> Self {
        Self {
            seq: manifest.seq,
            manifest_sha256: manifest_sha256.to_owned(),
            to: manifest.to,
            dialect: manifest.dialect.clone(),
            lateness_seconds: manifest.lateness_seconds,
        }
    }

    /// What may change without a record in such a log: a sentence each.
    #[must_use]
    pub fn cannot_tell(&self) -> &'static [&'static str] {
        dialect::by_name(&self.dialect).map_or(&[], |dialect| dialect.cannot_tell())
    }
}

/// The windows that are there, by sequence number, going by their names alone.
///
/// # Errors
///
/// The directory cannot be listed; one that does not exist has no windows.
pub async fn chain(out: &dyn Store) -> Result<Vec<WindowName>, ChangelogError> {
    match out.identity().await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Vec::new()),
        identity => identity?,
    };
    let mut listed = out.list(&RelPath::root());
    let mut names = Vec::new();
    loop {
        match listed.try_next().await {
            Ok(None) => break,
            Ok(Some(Listed::Entry(entry))) => {
                names.extend(std::str::from_utf8(&entry.name).ok().and_then(WindowName::of_manifest));
            }
            Ok(Some(Listed::Odd(_))) => {}
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
    }
    names.sort();
    Ok(names)
}

/// The manifest of one window, and its digest.
///
/// # Errors
///
/// [`ChangelogError::BrokenChain`] if it is not there, or is no manifest that this version can read.
pub async fn manifest(out: &dyn Store, name: &WindowName) -> Result<(Manifest, String), ChangelogError> {
    let file = name.manifest();
    let Some(bytes) = whole(out, &path(&file)?).await? else { return Err(broken(format!("{file} is missing"))) };
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| broken(format!("{file} is no manifest: {error}")))?;
    if manifest.version != VERSION {
        let what = format!("{file} is of version {}, this program reads version {VERSION}", manifest.version);
        return Err(ChangelogError::BrokenChain { what, advice: "use the version of syncd that wrote it" });
    }
    if manifest.name() != *name {
        return Err(broken(format!("{file} is the manifest of another window, {}", manifest.name())));
    }
    Ok((manifest, sha256(&bytes)))
}

/// The newest window; `None` if there is none.
pub(super) async fn last(out: &dyn Store) -> Result<Option<(Manifest, String)>, ChangelogError> {
    let names = chain(out).await?;
    contiguous(&names)?;
    match names.last() {
        Some(name) => manifest(out, name).await.map(Some),
        None => Ok(None),
    }
}

/// The windows that follow the applied one (or all, if none was), in order, with their digests; proven to be a chain.
///
/// # Errors
///
/// [`ChangelogError::BrokenChain`] if a window is missing or altered, or does not continue what was applied.
pub async fn after(out: &dyn Store, applied: Option<&Applied>) -> Result<Vec<(Manifest, String)>, ChangelogError> {
    let names = chain(out).await?;
    contiguous(&names)?;
    let done = applied.map_or(0, |applied| applied.seq);
    if let Some(applied) = applied {
        check_ancestor(out, &names, applied).await?;
    }
    let mut before = applied.map(|applied| (applied.seq, applied.to, applied.manifest_sha256.clone()));
    let mut windows = Vec::new();
    for name in names.iter().filter(|name| name.seq > done) {
        let (manifest, sha256) = manifest(out, name).await?;
        check_link(&manifest, before.as_ref())?;
        before = Some((manifest.seq, manifest.to, sha256.clone()));
        windows.push((manifest, sha256));
    }
    Ok(windows)
}

/// The changes of a window in the order of its lines. The data is proven to be what the manifest says, before the first
/// change where it is small, at the end otherwise.
///
/// # Errors
///
/// As an item, after which the stream ends: [`ChangelogError::BrokenChain`] if the data is missing, altered or damaged.
pub fn changes<'a>(out: &'a dyn Store, manifest: &Manifest) -> BoxStream<'a, Result<Change, ChangelogError>> {
    let manifest = Arc::new(manifest.clone());
    let texts = Texts::open(out, Arc::clone(&manifest));
    futures::stream::once(texts)
        .map_ok(Texts::into_stream)
        .try_flatten()
        .map(move |text| read(text, Arc::clone(&manifest)))
        .buffered(TEXTS_AHEAD)
        .scan(false, |has_failed, batch| {
            let has_failed = std::mem::replace(has_failed, batch.failed.is_some());
            std::future::ready((!has_failed).then_some(batch))
        })
        .flat_map(|batch| futures::stream::iter(batch.into_results()))
        .boxed()
}

pub(super) fn path(name: &str) -> Result<RelPath, ChangelogError> {
    RelPath::new(name).map_err(|error| broken(format!("{name:?} is no file name: {error}")))
}

fn broken(what: String) -> ChangelogError {
    ChangelogError::BrokenChain { what, advice: RESTORE }
}

fn contiguous(names: &[WindowName]) -> Result<(), ChangelogError> {
    for pair in names.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        if next.seq == one.seq {
            return Err(broken(format!("there are two windows {}: {one} and {next}", one.seq)));
        }
        if next.seq != one.seq + 1 {
            return Err(broken(format!("window {} is missing", one.seq + 1)));
        }
    }
    Ok(())
}

/// The applied window may have been removed since, as long as the next one names its digest.
async fn check_ancestor(out: &dyn Store, names: &[WindowName], applied: &Applied) -> Result<(), ChangelogError> {
    let seq = applied.seq;
    match names.iter().find(|name| name.seq == seq) {
        Some(name) if manifest(out, name).await?.1 == applied.manifest_sha256 => Ok(()),
        Some(name) => Err(broken(format!("{name} is not the window {seq} that was applied"))),
        None if names.iter().any(|name| name.seq == seq + 1) => Ok(()),
        None => Err(broken(format!("window {seq}, which was applied last, is missing"))),
    }
}

fn check_link(manifest: &Manifest, before: Option<&(u64, DateTime<Utc>, String)>) -> Result<(), ChangelogError> {
    let name = manifest.name();
    match before {
        None if manifest.seq == 1 && manifest.previous.is_none() => Ok(()),
        None => Err(broken(format!("the windows before {name} are missing"))),
        Some((seq, ..)) if manifest.seq != seq + 1 => Err(broken(format!("window {} is missing", seq + 1))),
        Some((seq, _, sha256)) if manifest.previous.as_ref() != Some(sha256) => {
            Err(broken(format!("{name} does not continue window {seq}, which was altered or replaced")))
        }
        Some((_, to, _)) if manifest.from != *to => {
            Err(broken(format!("{name} does not begin where the window before it ends")))
        }
        Some(_) => Ok(()),
    }
}

async fn whole(out: &dyn Store, path: &RelPath) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(meta) = out.lookup(path).await? else { return Ok(None) };
    let mut stream = match out.read_range(path, 0, meta.len).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        stream => stream?,
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// Some whole lines of a window's data.
struct Text {
    bytes: Vec<u8>,
    /// How many lines stand before them.
    before: u64,
}

/// What some lines gave: the changes up to the first line that is none.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    failed: Option<ChangelogError>,
}

/// Reads some lines where that keeps nobody waiting.
async fn read(text: Result<Text, ChangelogError>, manifest: Arc<Manifest>) -> Batch {
    let batch = match text {
        Ok(text) => tokio::task::spawn_blocking(move || text.read(&manifest)).await,
        Err(error) => return Batch { failed: Some(error), ..Batch::default() },
    };
    batch.unwrap_or_else(|error| Batch { failed: Some(io::Error::other(error).into()), ..Batch::default() })
}

impl Text {
    fn read(&self, manifest: &Manifest) -> Batch {
        let mut batch = Batch::default();
        let ends = memchr_iter(b'\n', &self.bytes).map(|newline| newline + 1);
        let (mut start, mut number) = (0, self.before);
        for end in ends.chain((!self.bytes.ends_with(b"\n")).then_some(self.bytes.len())) {
            let line = &self.bytes[std::mem::replace(&mut start, end)..end];
            number += 1;
            match serde_json::from_slice(line) {
                Ok(change) => batch.changes.push(change),
                Err(error) => {
                    let what = format!("line {number} of {} is no change: {error}", manifest.data.name);
                    batch.failed = Some(broken(what));
                    break;
                }
            }
        }
        batch
    }
}

impl Batch {
    fn into_results(self) -> impl Iterator<Item = Result<Change, ChangelogError>> {
        self.changes.into_iter().map(Ok).chain(self.failed.map(Err))
    }
}

/// The data of a window on its way to lines.
struct Texts {
    manifest: Arc<Manifest>,
    source: Pin<Box<dyn AsyncRead + Send>>,
    /// Of the bytes read so far.
    digest: Arc<Mutex<Sha256>>,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    /// Lines so far.
    count: u64,
}

impl Texts {
    async fn open(out: &dyn Store, manifest: Arc<Manifest>) -> Result<Self, ChangelogError> {
        let stream = data(out, &manifest).await?;
        let digest = Arc::new(Mutex::new(Sha256::new()));
        let reading = Arc::clone(&digest);
        let stream = stream
            .inspect_ok(move |bytes| reading.lock().unwrap_or_else(PoisonError::into_inner).update(bytes))
            .map_err(io::Error::other);
        let mut decoder = ZstdDecoder::new(StreamReader::new(stream));
        decoder.multiple_members(true);
        Ok(Self { manifest, source: Box::pin(decoder), digest, rest: Vec::new(), count: 0 })
    }

    fn into_stream(self) -> impl Stream<Item = Result<Text, ChangelogError>> {
        futures::stream::try_unfold(self, |mut texts| async move { Ok(texts.next().await?.map(|text| (text, texts))) })
    }

    /// Only the last line may lack its newline.
    async fn next(&mut self) -> Result<Option<Text>, ChangelogError> {
        let mut bytes = std::mem::take(&mut self.rest);
        loop {
            let read = (&mut self.source).take(TEXT_BYTES).read_to_end(&mut bytes).await;
            let is_end = read.map_err(|error| self.cause(error))? == 0;
            if let Some(newline) = memrchr(b'\n', &bytes).filter(|_| !is_end) {
                self.rest = bytes.split_off(newline + 1);
                break;
            } else if is_end && bytes.is_empty() {
                return self.end().map(|()| None);
            } else if is_end {
                break;
            }
        }
        let before = self.count;
        self.count += memchr_iter(b'\n', &bytes).count() as u64 + u64::from(!bytes.ends_with(b"\n"));
        Ok(Some(Text { bytes, before }))
    }

    fn end(&self) -> Result<(), ChangelogError> {
        let digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let whole = hex(&digest.finalize()) == self.manifest.data.sha256 && self.count == self.manifest.data.changes;
        if whole { Ok(()) } else { Err(altered(&self.manifest)) }
    }

    /// A store's error keeps its own words; what else goes wrong is the data's fault.
    fn cause(&self, error: io::Error) -> ChangelogError {
        match error.downcast::<StoreError>() {
            Ok(error) => error.into(),
            Err(error) => broken(format!("{} is damaged: {error}", self.manifest.data.name)),
        }
    }
}

/// The compressed data, proven already if it is small.
async fn data(
    out: &dyn Store,
    manifest: &Manifest,
) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, ChangelogError> {
    let path = path(&manifest.data.name)?;
    let Some(meta) = out.lookup(&path).await? else { return Err(missing(manifest)) };
    if meta.len != manifest.data.bytes {
        return Err(altered(manifest));
    }
    if meta.len > WHOLE_BYTES {
        return Ok(out.read_range(&path, 0, meta.len).await?);
    }
    let Some(bytes) = whole(out, &path).await? else { return Err(missing(manifest)) };
    if sha256(&bytes) != manifest.data.sha256 {
        return Err(altered(manifest));
    }
    Ok(futures::stream::iter([Ok(Bytes::from(bytes))]).boxed())
}

fn missing(manifest: &Manifest) -> ChangelogError {
    broken(format!("{} is missing", manifest.data.name))
}

fn altered(manifest: &Manifest) -> ChangelogError {
    broken(format!("{} is not what its manifest says: it was altered or cut", manifest.data.name))
}
