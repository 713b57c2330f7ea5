//! What a store holds, walked without syncd's stores: by Hadoop's RPC, by `std::fs`, by plain S3 requests. So that a
//! mistake in a store cannot hide itself.

use aws_sdk_s3::Client as S3Client;
use futures::stream::{self, StreamExt, TryStreamExt};
use hdfs_native::client::FileStatus;
use hdfs_native::{Client as HdfsClient, ClientBuilder};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use syncd::store::RESERVED;

const AT_ONCE: usize = 16;
const SHOWN_MAX: usize = 30;

/// By the path below the root; the root itself is left out.
pub type Tree = BTreeMap<String, Seen>;

/// What stands at a path. `None`: this store does not keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `None` for a directory.
    pub content: Option<Vec<u8>>,
    pub mode: Option<u32>,
    /// Milliseconds, as HDFS keeps times.
    pub mtime: Option<i64>,
    /// `user:group`
    pub owner: Option<String>,
}

/// One line for each path at which the two differ in what both keep; empty if they are equal.
pub fn differences(source: &Tree, destination: &Tree) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> = source.keys().chain(destination.keys()).collect();
    let differ = |path: &String| match (source.get(path), destination.get(path)) {
        (Some(source), Some(there)) => source.unlike(there),
        (Some(source), None) => Some(format!("missing {}", source.brief())),
        (None, there) => Some(format!("left over {}", there.map(Seen::brief).unwrap_or_default())),
    };
    let lines = all.into_iter().filter_map(|path| Some(format!("{path:?}: {}", differ(path)?)));
    lines.take(SHOWN_MAX).collect()
}

impl Seen {
    fn unlike(&self, there: &Self) -> Option<String> {
        let known = |one: bool, other: bool| one && other;
        let differs = self.content != there.content
            || (known(self.mode.is_some(), there.mode.is_some()) && self.mode != there.mode)
            || (known(self.mtime.is_some(), there.mtime.is_some()) && self.mtime != there.mtime)
            || (known(self.owner.is_some(), there.owner.is_some()) && self.owner != there.owner);
        differs.then(|| format!("{} at the source, {} at the destination", self.brief(), there.brief()))
    }

    fn brief(&self) -> String {
        let content = match &self.content {
            None => "directory".to_owned(),
            Some(bytes) => format!("file of {} bytes from {:?}", bytes.len(), &bytes[..bytes.len().min(8)]),
        };
        format!(
            "{content} mode {:?} mtime {:?} owner {:?}",
            self.mode.map(|m| format!("{m:o}")),
            self.mtime,
            self.owner
        )
    }
}

/// A client of the cluster at `uri`, for what is done behind a store's back.
pub fn hdfs_client(uri: &str) -> HdfsClient {
    ClientBuilder::new().with_url(uri).build().expect("a client")
}

/// Of a tree that nobody changes. An open file has the content that its reader sees.
pub async fn hdfs(client: &HdfsClient, root: &str) -> Tree {
    let entries = client.list_status(root, true).await.expect("a listing");
    let seen = stream::iter(entries).map(|status| async move {
        let path = status.path.strip_prefix(&format!("{root}/")).expect("below the root").to_owned();
        (path, hdfs_seen(client, &status).await)
    });
    seen.buffer_unordered(AT_ONCE).collect().await
}

async fn hdfs_seen(client: &HdfsClient, status: &FileStatus) -> Seen {
    let content = match status.isdir {
        true => None,
        false => {
            let reader = client.read(&status.path).await.expect(&status.path);
            Some(reader.read_range(0, reader.file_length()).await.expect(&status.path).to_vec())
        }
    };
    Seen {
        content,
        mode: Some(u32::from(status.permission) & 0o7777),
        mtime: i64::try_from(status.modification_time).ok(),
        owner: Some(format!("{}:{}", status.owner, status.group)),
    }
}

/// Owners of HDFS are names, and a local tree keeps none.
pub fn local(root: &Path) -> Tree {
    let (mut tree, mut ahead) = (Tree::new(), vec![root.to_owned()]);
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(&dir).expect("a listing") {
            let path = entry.expect("an entry").path();
            let below = path.strip_prefix(root).expect("below the root");
            if below == Path::new(RESERVED) {
                continue;
            }
            let name = String::from_utf8(below.as_os_str().as_bytes().to_vec()).expect("tests use UTF-8");
            let meta = fs::symlink_metadata(&path).expect("an entry");
            let content = meta.is_file().then(|| fs::read(&path).expect("a file"));
            let mtime = Some(meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000);
            tree.insert(name, Seen { content, mode: Some(meta.mode() & 0o7777), mtime, owner: None });
            if meta.is_dir() {
                ahead.push(path);
            }
        }
    }
    tree
}

/// What syncd left below its reserved name, which after a run is nothing but empty directories.
pub fn local_leftovers(root: &Path) -> Vec<String> {
    let reserved = root.join(RESERVED);
    if !reserved.exists() {
        return Vec::new();
    }
    local(&reserved).into_iter().filter(|(_, seen)| seen.content.is_some()).map(|(path, _)| path).collect()
}

/// Every key is in a flat listing. A key that ends in a slash is a directory with its attributes, and directories keep
/// no times here that anyone set.
pub async fn s3(client: &S3Client, bucket: &str, prefix: &str) -> Tree {
    let mut keys = s3_keys(client, bucket, prefix).await;
    keys.retain(|key| !key.starts_with(&format!("{prefix}/{RESERVED}/")));
    let seen = stream::iter(keys).map(|key| async move {
        let path = key.strip_prefix(&format!("{prefix}/")).expect("below the prefix");
        (path.trim_end_matches('/').to_owned(), s3_seen(client, bucket, &key).await)
    });
    seen.buffer_unordered(AT_ONCE).filter(|(path, _)| futures::future::ready(!path.is_empty())).collect().await
}

/// The same of objects that carry no attributes, with the directories that their keys lie in.
pub async fn s3_bare(client: &S3Client, bucket: &str, prefix: &str) -> Tree {
    let bare = |content| Seen { content, mode: None, mtime: None, owner: None };
    let files = s3(client, bucket, prefix).await;
    let slashes = files.keys().flat_map(|path| path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
    let dirs: Vec<(String, Seen)> = slashes.map(|dir| (dir, bare(None))).collect();
    files.into_iter().map(|(path, seen)| (path, bare(seen.content))).chain(dirs).collect()
}

/// In the order of the server.
pub async fn s3_keys(client: &S3Client, bucket: &str, prefix: &str) -> Vec<String> {
    let pages = client.list_objects_v2().bucket(bucket).prefix(format!("{prefix}/")).into_paginator().send();
    let pages = stream::try_unfold(pages, |mut pages| async move {
        Ok::<_, ()>(pages.next().await.map(|page| (page.expect("a listing"), pages)))
    });
    let pages: Vec<_> = pages.try_collect().await.expect("pages");
    let objects = pages.into_iter().flat_map(|page| page.contents.unwrap_or_default());
    objects.filter_map(|object| object.key).collect()
}

async fn s3_seen(client: &S3Client, bucket: &str, key: &str) -> Seen {
    let got = client.get_object().bucket(bucket).key(key).send().await.expect(key);
    let metadata = got.metadata.clone().unwrap_or_default();
    let bytes = Vec::from(got.body.collect().await.expect(key).into_bytes());
    let is_dir = key.ends_with('/');
    Seen {
        content: (!is_dir).then_some(bytes),
        mode: Some(metadata.get("mode").map_or(0, |mode| u32::from_str_radix(mode, 8).expect(mode) & 0o7777)),
        mtime: if is_dir { None } else { Some(s3_time(&metadata)) },
        owner: Some(format!("{}:{}", owner_part(&metadata, "owner"), owner_part(&metadata, "group"))),
    }
}

fn s3_time(metadata: &HashMap<String, String>) -> i64 {
    let seconds: f64 = metadata.get("mtime").map_or(0.0, |text| text.parse().expect(text));
    (seconds * 1000.0).round() as i64
}

fn owner_part(metadata: &HashMap<String, String>, key: &str) -> String {
    metadata.get(key).cloned().unwrap_or_default()
}
