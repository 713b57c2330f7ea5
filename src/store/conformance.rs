//! The contract of [`Store`] as code: what its doc comments promise, one small function each, whose name is the promise.
//! Every store and every wrapper runs it, those on real servers too; hence it is compiled always.
//!
//! A broken promise is an error inside and one panic at the end of [`run`], which names the store and all that it broke.

use super::{Body, Chunk, ErrorKind, Kind, Listed, Meta, Owner, Owners, RESERVED, Read, Store, StoreError, Time};
use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use std::collections::BTreeMap;
use std::time::Duration;
use syncd_parsers::RelPath;

/// What a store cannot hold by its nature. The contract has no other exceptions.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// True for a name (one component) that the store refuses with [`ErrorKind::Unsupported`]. Nothing may mangle a name instead.
    pub refuses: fn(&[u8]) -> bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { refuses: |_| false }
    }
}

/// Puts a store with an empty root (or none yet) to the test. Leaves its files there.
///
/// # Panics
///
/// The store broke a promise. All are tried before.
pub async fn run(store: &dyn Store, limits: &Limits) {
    let mut broken = Vec::new();
    for (at, (promise, check)) in PROMISES.iter().enumerate() {
        if let Err(Broken(how)) = keep(store, limits, at, *check).await {
            broken.push(format!("{}: {}: {how}", store.capabilities().name, promise.replace('_', " ")));
        }
    }
    assert!(broken.is_empty(), "{} broken promises\n{}", broken.len(), broken.join("\n"));
}

/// For a store that cannot get through to its data (no server at that address, a wrapper that fails
/// every call): none of its answers may say that nothing is there.
///
/// # Panics
///
/// A failure was taken for an answer.
pub async fn run_out_of_reach(store: &dyn Store) {
    let name = store.capabilities().name;
    let path = RelPath::root().join(b"x").unwrap_or_default();
    let fails = |what: &str, kind: Option<ErrorKind>| {
        assert!(kind.is_some_and(|kind| kind != ErrorKind::NotFound), "{name}: out of reach, {what} gave {kind:?}");
    };
    fails("identity", store.identity().await.err().map(|e| e.kind));
    fails("lookup", store.lookup(&path).await.err().map(|e| e.kind));
    fails("list", store.list(&path).try_collect::<Vec<_>>().await.err().map(|e| e.kind));
    fails("read", store.read(&path, &Meta::file(1)).await.err().map(|e| e.kind));
    fails("put", store.put(&path, &Meta::file(0), Body::Whole(Bytes::new())).await.err().map(|e| e.kind));
    fails("remove", store.remove(std::slice::from_ref(&path)).await.err().map(|e| e.kind));
    fails("remove_tree", store.remove_tree(&path).await.err().map(|e| e.kind));
    fails("rename", store.rename(&path, &RelPath::root()).await.err().map(|e| e.kind));
}

macro_rules! promises {
    ($($check:ident),* $(,)?) => {
        &[$((stringify!($check), (|place| $check(place).boxed()) as Check)),*]
    };
}

const PROMISES: &[(&str, Check)] = promises![
    the_root_keeps_its_identity,
    a_missing_path_is_none,
    a_look_shows_what_stands_there,
    a_file_of_any_size_comes_back_as_it_was_put,
    a_streamed_body_of_odd_chunks_comes_back,
    holes_come_back_as_zeros,
    put_replaces_a_file,
    put_never_replaces_a_directory_of_a_tree,
    puts_at_once_leave_one_of_the_files,
    a_body_that_fails_changes_nothing,
    a_put_that_is_dropped_changes_nothing,
    times_modes_and_owners_are_kept,
    directories_keep_what_the_store_says_they_keep,
    the_tag_changes_with_the_content,
    mkdir_may_be_repeated,
    empty_directories_survive,
    a_listing_shows_each_name_once,
    a_listing_agrees_with_a_look,
    a_missing_directory_is_not_found,
    odd_names_are_kept_or_refused,
    odd_names_of_directories_are_kept,
    three_thousand_entries_are_listed,
    reading_what_is_gone_is_not_found,
    a_read_is_of_one_version,
    a_range_is_cut_at_the_end,
    remove_is_well_with_missing_files,
    remove_takes_many_files_and_no_others,
    remove_leaves_directories,
    remove_tree_takes_all_and_no_neighbour,
    rename_moves_a_file,
    rename_moves_a_directory_with_all_below,
    rename_replaces_nothing,
    rename_into_itself_loses_nothing,
    rename_of_nothing_is_not_found,
    the_reserved_name_is_not_listed,
    links_are_kept_or_refused,
    links_are_never_followed,
    sync_returns,
];

type Outcome = Result<(), Broken>;
type Check = for<'a> fn(&'a Place<'a>) -> BoxFuture<'a, Outcome>;

/// How a promise was broken.
struct Broken(String);

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        let cause = error.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
        Self(format!("{error}{cause}"))
    }
}

macro_rules! ensure {
    ($holds:expr, $($how:tt)*) => {
        if !$holds {
            return Err(Broken(format!($($how)*)));
        }
    };
}

/// Makes an empty directory for one check and runs it there.
async fn keep(store: &dyn Store, limits: &Limits, at: usize, check: Check) -> Outcome {
    store.create_root().await?;
    let place = Place { store, limits, dir: join(&RelPath::root(), format!("c{at}")) };
    store.mkdir(&place.dir, &Meta::dir()).await?;
    check(&place).await
}

async fn the_root_keeps_its_identity(at: &Place<'_>) -> Outcome {
    let before = at.store.identity().await?;
    at.put("x", b"1").await?;
    at.store.create_root().await?;
    let after = at.store.identity().await?;
    ensure!(!before.is_empty() && before == after, "{before:?}, then {after:?}");
    let root = at.store.lookup(&RelPath::root()).await?;
    ensure!(root.is_some_and(|meta| meta.is_dir()), "the root is no directory");
    Ok(())
}

async fn a_missing_path_is_none(at: &Place<'_>) -> Outcome {
    at.put("file", b"x").await?;
    for missing in ["none", "none/below", "file/below", "file/below/deeper", "fil"] {
        at.expect_none(missing).await?;
    }
    Ok(())
}

async fn a_look_shows_what_stands_there(at: &Place<'_>) -> Outcome {
    at.put("file", b"12345").await?;
    at.mkdir("dir").await?;
    let (file, dir) = (at.look("file").await?, at.look("dir").await?);
    ensure!((file.kind, file.len, file.target.clone()) == (Kind::File, 5, None), "file: {file:?}");
    ensure!((dir.kind, dir.len, dir.target.clone()) == (Kind::Dir, 0, None), "directory: {dir:?}");
    ensure!(file.complete && dir.complete, "a look is complete");
    Ok(())
}

async fn a_file_of_any_size_comes_back_as_it_was_put(at: &Place<'_>) -> Outcome {
    for len in [0, 1, 4096, 65_537, 1 << 20, (1 << 20) + 1] {
        let bytes = noise(len);
        at.put("f", &bytes).await?;
        at.expect_bytes("f", &bytes).await?;
    }
    Ok(())
}

async fn a_streamed_body_of_odd_chunks_comes_back(at: &Place<'_>) -> Outcome {
    let bytes = noise(5 * (1 << 20) + 17);
    at.put_stream("f", bytes.len() as u64, stream::iter(odd_chunks(&bytes)).boxed()).await?;
    at.expect_bytes("f", &bytes).await?;
    at.put_stream("empty", 0, stream::empty().boxed()).await?;
    at.expect_bytes("empty", b"").await
}

async fn holes_come_back_as_zeros(at: &Place<'_>) -> Outcome {
    let layouts = [
        vec![data(b"ab"), Chunk::Hole(3 << 20), data(b"cd"), Chunk::Hole(100_000)],
        vec![Chunk::Hole(70_000), data(b"end")],
        vec![Chunk::Hole(1 << 20)],
        vec![Chunk::Hole(0), data(b""), data(b"x"), Chunk::Hole(1)],
    ];
    for layout in layouts {
        let bytes = flat(&layout);
        at.put_stream("f", bytes.len() as u64, stream::iter(layout.into_iter().map(Ok)).boxed()).await?;
        at.expect_bytes("f", &bytes).await?;
    }
    Ok(())
}

async fn put_replaces_a_file(at: &Place<'_>) -> Outcome {
    at.put("f", &noise(100_000)).await?;
    at.put("f", b"short").await?;
    at.expect_bytes("f", b"short").await?;
    at.expect_names("", &["f"]).await
}

/// Flat stores can hold both, and do not look.
async fn put_never_replaces_a_directory_of_a_tree(at: &Place<'_>) -> Outcome {
    if !at.store.capabilities().tree {
        return Ok(());
    }
    at.mkdir("d").await?;
    ensure!(at.put("d", b"x").await.is_err(), "a file was put over an empty directory");
    at.put("f", b"x").await?;
    ensure!(at.mkdir("f").await.is_err(), "a directory was made over a file");
    at.expect_bytes("f", b"x").await?;
    at.expect_names("", &["d", "f"]).await
}

async fn puts_at_once_leave_one_of_the_files(at: &Place<'_>) -> Outcome {
    let versions: Vec<Vec<u8>> = (0..8).map(|at| vec![b'0' + at; 1000 + usize::from(at)]).collect();
    let puts = versions.iter().map(|bytes| at.put("f", bytes));
    futures::future::try_join_all(puts).await?;
    let end = at.bytes("f").await?;
    ensure!(versions.contains(&end), "{} bytes that nobody put", end.len());
    at.expect_names("", &["f"]).await
}

async fn a_body_that_fails_changes_nothing(at: &Place<'_>) -> Outcome {
    at.put("old", b"old").await?;
    for (name, len) in [("old", 10), ("new", 10), ("old", 12 << 20), ("new", 12 << 20)] {
        let error = StoreError::new("read", &at.path(name), ErrorKind::Changed);
        let body = odd_chunks(&noise(len)).into_iter().chain([Err(error)]);
        match at.put_stream(name, len as u64, stream::iter(body).boxed()).await {
            Err(error) => ensure!(error.kind == ErrorKind::Changed, "{error}, which is not the error of the body"),
            Ok(()) => ensure!(false, "a file whose body failed was put"),
        }
    }
    at.expect_bytes("old", b"old").await?;
    at.expect_none("new").await?;
    at.expect_names("", &["old"]).await
}

async fn a_put_that_is_dropped_changes_nothing(at: &Place<'_>) -> Outcome {
    at.put("old", b"old").await?;
    for name in ["old", "new"] {
        let (reached, waiting) = tokio::sync::oneshot::channel();
        let hang = async move {
            let _: Result<(), ()> = reached.send(());
            std::future::pending().await
        };
        let body = stream::iter(odd_chunks(&noise(3 << 20))).chain(stream::once(hang)).boxed();
        let put = at.put_stream(name, 4 << 20, body).boxed();
        let first = select(put, waiting).await;
        ensure!(matches!(first, Either::Right(_)), "put returned before its body ended");
    }
    at.expect_bytes("old", b"old").await?;
    at.expect_none("new").await?;
    at.expect_names("", &["old"]).await
}

async fn times_modes_and_owners_are_kept(at: &Place<'_>) -> Outcome {
    for (nanos, mode) in
        [(1_700_000_000_123_456_789, 0o640), (2_240_000_000_999_999_999, 0o755), (1_000_000_000, 0o600)]
    {
        let meta = at.attrs(Meta::file(3), nanos, mode);
        at.store.put(&at.path("whole"), &meta, Body::Whole(Bytes::from_static(b"abc"))).await?;
        at.expect_attrs("whole", &meta, true).await?;
        let body = Body::Stream(stream::iter([Ok(data(b"abc"))]).boxed());
        at.store.put(&at.path("streamed"), &meta, body).await?;
        at.expect_attrs("streamed", &meta, true).await?;
        at.put("later", b"abc").await?;
        at.store.set_attrs(&at.path("later"), &meta).await?;
        at.expect_attrs("later", &meta, true).await?;
        at.expect_bytes("later", b"abc").await?;
    }
    let gone = at.store.set_attrs(&at.path("gone"), &at.attrs(Meta::file(3), 1_000_000_000, 0o600)).await;
    ensure!(gone.is_err() || at.keeps_nothing(), "attributes were set on what is not there");
    at.expect_none("gone").await
}

async fn directories_keep_what_the_store_says_they_keep(at: &Place<'_>) -> Outcome {
    let first = at.attrs(Meta::dir(), 1_600_000_000_000_000_000, 0o750);
    at.store.mkdir(&at.path("d"), &first).await?;
    at.expect_attrs("d", &first, false).await?;
    let second = at.attrs(Meta::dir(), 1_650_000_000_500_000_000, 0o711);
    at.store.mkdir(&at.path("d"), &second).await?;
    at.expect_attrs("d", &second, false).await?;
    let third = at.attrs(Meta::dir(), 1_660_000_000_000_000_000, 0o700);
    at.store.set_attrs(&at.path("d"), &third).await?;
    at.expect_attrs("d", &third, at.store.capabilities().dir_times).await
}

/// With times that do not tell.
async fn the_tag_changes_with_the_content(at: &Place<'_>) -> Outcome {
    let meta = at.attrs(Meta::file(3), 1_700_000_000_000_000_000, 0o644);
    let mut tags = Vec::new();
    for bytes in [&b"abc"[..], b"abd"] {
        at.store.put(&at.path("f"), &meta, Body::Whole(Bytes::from_static(bytes))).await?;
        let (first, second) = (at.look("f").await?.tag, at.look("f").await?.tag);
        ensure!(first == second, "{first:?}, then {second:?}, of an untouched file");
        tags.push(first);
    }
    ensure!(tags[0] != tags[1] || tags[0].is_none(), "{:?} for both contents", tags[0]);
    Ok(())
}

async fn mkdir_may_be_repeated(at: &Place<'_>) -> Outcome {
    at.mkdir("d").await?;
    at.put("d/f", b"x").await?;
    at.mkdir("d").await?;
    at.expect_bytes("d/f", b"x").await?;
    at.expect_names("", &["d"]).await
}

async fn empty_directories_survive(at: &Place<'_>) -> Outcome {
    at.mkdir("d").await?;
    at.mkdir("d/e").await?;
    at.expect_names("d", &["e"]).await?;
    at.expect_names("d/e", &[]).await?;
    at.put("d/e/f", b"x").await?;
    at.store.remove(&[at.path("d/e/f")]).await?;
    let meta = at.look("d/e").await?;
    ensure!(meta.is_dir(), "its last file was removed, and now it is {meta:?}");
    at.expect_names("d/e", &[]).await
}

async fn a_listing_shows_each_name_once(at: &Place<'_>) -> Outcome {
    for dir in ["a", "a/b", "a-b"] {
        at.mkdir(dir).await?;
    }
    for file in ["a/b/c", "a/b/d", "a-b/x", "a.txt", "a0"] {
        at.put(file, b"x").await?;
    }
    at.expect_names("", &["a", "a-b", "a.txt", "a0"]).await?;
    at.expect_names("a", &["b"]).await?;
    at.expect_names("a/b", &["c", "d"]).await
}

async fn a_listing_agrees_with_a_look(at: &Place<'_>) -> Outcome {
    let meta = at.attrs(Meta::file(7), 1_700_000_000_000_000_000, 0o640);
    at.store.put(&at.path("file"), &meta, Body::Whole(Bytes::from_static(b"1234567"))).await?;
    at.mkdir("dir").await?;
    for (name, listed) in at.list("").await? {
        let seen = at.look_at(&at.dir.join(&name).unwrap_or_default()).await?;
        ensure!((listed.kind, listed.len) == (seen.kind, seen.len), "listed {listed:?}, seen {seen:?}");
        ensure!(!listed.complete || listed == seen, "listed as complete {listed:?}, seen {seen:?}");
    }
    Ok(())
}

async fn a_missing_directory_is_not_found(at: &Place<'_>) -> Outcome {
    match at.list("none").await {
        Err(Broken(how)) => ensure!(how.contains("not found"), "{how}"),
        Ok(_) => ensure!(false, "a directory that is not there was listed"),
    }
    let stream = at.store.list(&at.path("none")).collect::<Vec<_>>().await;
    let only_error = matches!(&stream[..], [Err(error)] if error.kind == ErrorKind::NotFound);
    ensure!(only_error, "the stream is not one error that says `not found`");
    Ok(())
}

async fn odd_names_are_kept_or_refused(at: &Place<'_>) -> Outcome {
    let mut kept = Vec::new();
    for name in odd_names() {
        let path = join(&at.dir, &name);
        let put = at.store.put(&path, &Meta::file(name.len() as u64), Body::Whole(name.clone().into())).await;
        if !(at.limits.refuses)(&name) {
            put.map_err(|error| Broken(format!("{:?}: {error}: {:?}", text(&name), error.cause)))?;
            kept.push(name);
            continue;
        }
        let kind = put.err().map(|error| error.kind);
        ensure!(kind == Some(ErrorKind::Unsupported), "{:?} was not refused: {kind:?}", text(&name));
        let seen = at.store.lookup(&path).await;
        ensure!(!matches!(seen, Ok(Some(_))), "{:?} was refused and is there", text(&name));
    }
    let listed: Vec<Vec<u8>> = at.list("").await?.into_keys().collect();
    kept.sort();
    ensure!(listed == kept, "listed {:?}, put {:?}", texts(&listed), texts(&kept));
    for name in kept {
        let path = join(&at.dir, &name);
        let bytes = at.bytes_at(&path).await?;
        ensure!(bytes == name, "{:?} holds what was put as {:?}", text(&name), text(&bytes));
        at.store.remove(&[path]).await?;
    }
    at.expect_names("", &[]).await
}

async fn odd_names_of_directories_are_kept(at: &Place<'_>) -> Outcome {
    let names = odd_names().into_iter().filter(|name| !(at.limits.refuses)(name));
    for (nr, name) in names.enumerate() {
        let dir = join(&at.dir, &name);
        at.store.mkdir(&dir, &Meta::dir()).await?;
        let (file, moved) = (join(&dir, "f"), join(&dir, format!("moved {nr}")));
        at.store.put(&file, &Meta::file(1), Body::Whole(Bytes::from_static(b"x"))).await?;
        at.store.rename(&file, &moved).await?;
        let listed: Vec<_> = at.list_at(&dir).await?.into_keys().collect();
        ensure!(listed == [moved.name()], "{:?} holds {:?}", text(&name), texts(&listed));
        at.store.remove_tree(&dir).await?;
        ensure!(at.store.lookup(&moved).await?.is_none(), "{:?} was not removed", text(&name));
    }
    at.expect_names("", &[]).await
}

async fn three_thousand_entries_are_listed(at: &Place<'_>) -> Outcome {
    at.put_many("", 3000).await?;
    let dirs = (0..20).map(|nr| format!("dir{nr:02}"));
    for dir in dirs.clone() {
        at.mkdir(&dir).await?;
    }
    let expected: Vec<_> = dirs.chain((0..3000).map(numbered)).collect();
    at.expect_names("", &expected.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn reading_what_is_gone_is_not_found(at: &Place<'_>) -> Outcome {
    at.put("f", b"abc").await?;
    let seen = at.look("f").await?;
    at.store.remove(&[at.path("f")]).await?;
    let kind = match at.store.read(&at.path("f"), &seen).await {
        Ok(read) => whole(read).await.err().map(|error| error.kind),
        Err(error) => Some(error.kind),
    };
    ensure!(kind == Some(ErrorKind::NotFound), "read gave {kind:?}");
    let kind = at.range("f", 0, 1).await.err().map(|error| error.kind);
    ensure!(kind == Some(ErrorKind::NotFound), "read_range gave {kind:?}");
    at.mkdir("d").await?;
    ensure!(at.store.read(&at.path("d"), &seen).await.is_err(), "a directory was read");
    Ok(())
}

/// A file that was replaced after the look: its new version or [`ErrorKind::Changed`].
async fn a_read_is_of_one_version(at: &Place<'_>) -> Outcome {
    at.put("f", &noise(3 << 20)).await?;
    let seen = at.look("f").await?;
    at.put("f", b"new").await?;
    match at.store.read(&at.path("f"), &seen).await {
        Ok(read) => {
            let len = read.meta.len;
            match whole(read).await {
                Ok(bytes) => ensure!(bytes == b"new" && len == 3, "{} bytes of {len}", bytes.len()),
                Err(error) => ensure!(error.kind == ErrorKind::Changed, "{error}"),
            }
        }
        Err(error) => ensure!(error.kind == ErrorKind::Changed, "{error}"),
    }
    let seen = at.look("f").await?;
    let open = at.store.is_open(&at.path("f"), &seen).await?;
    ensure!(!open, "a finished file is called open");
    Ok(())
}

async fn a_range_is_cut_at_the_end(at: &Place<'_>) -> Outcome {
    let bytes = noise(300_000);
    at.put("f", &bytes).await?;
    for (offset, len) in [(0, 10), (65_530, 20), (100, 200_000), (299_990, 100), (300_000, 5), (400_000, 5), (7, 0)] {
        let got = at.range("f", offset as u64, len as u64).await?;
        let from = offset.min(bytes.len());
        let expected = &bytes[from..(offset + len).clamp(from, bytes.len())];
        ensure!(got == expected, "{} bytes for {len} from {offset}", got.len());
    }
    Ok(())
}

async fn remove_is_well_with_missing_files(at: &Place<'_>) -> Outcome {
    at.put("f", b"x").await?;
    at.store.remove(&[]).await?;
    at.store.remove(&[at.path("none"), at.path("none/below"), at.path("f/below"), at.path("f")]).await?;
    at.store.remove_tree(&at.path("none")).await?;
    at.store.remove_tree(&at.path("none/below")).await?;
    at.expect_names("", &[]).await
}

async fn remove_takes_many_files_and_no_others(at: &Place<'_>) -> Outcome {
    at.put_many("", 1100).await?;
    let files: Vec<RelPath> = (1..1100).map(|nr| at.path(&numbered(nr))).collect();
    at.store.remove(&files).await?;
    at.expect_names("", &[&numbered(0)]).await
}

async fn remove_leaves_directories(at: &Place<'_>) -> Outcome {
    for dir in ["full", "empty"] {
        at.mkdir(dir).await?;
    }
    at.put("full/f", b"x").await?;
    for dir in ["full", "empty"] {
        // Whether it is an error is the store's choice.
        let _: Result<(), StoreError> = at.store.remove(&[at.path(dir)]).await;
    }
    at.expect_names("", &["empty", "full"]).await?;
    at.expect_bytes("full/f", b"x").await
}

async fn remove_tree_takes_all_and_no_neighbour(at: &Place<'_>) -> Outcome {
    for dir in ["t", "t/a", "t/a/b", "t/a/b/c", "t/empty", "t2", "ta"] {
        at.mkdir(dir).await?;
    }
    for file in ["t/f", "t/a/b/c/f", "t2/f", "t.txt", "t-x"] {
        at.put(file, b"x").await?;
    }
    at.put_many("t/a/b", 2500).await?;
    at.store.remove_tree(&at.path("t")).await?;
    at.expect_none("t").await?;
    at.expect_none("t/a/b/c/f").await?;
    at.expect_names("", &["t-x", "t.txt", "t2", "ta"]).await?;
    at.expect_bytes("t2/f", b"x").await
}

async fn rename_moves_a_file(at: &Place<'_>) -> Outcome {
    at.mkdir("d").await?;
    let meta = at.attrs(Meta::file(3), 1_700_000_000_000_000_000, 0o640);
    at.store.put(&at.path("a"), &meta, Body::Whole(Bytes::from_static(b"abc"))).await?;
    at.rename("a", "d/b").await?;
    at.expect_none("a").await?;
    at.expect_bytes("d/b", b"abc").await?;
    at.expect_attrs("d/b", &meta, true).await?;
    at.expect_names("", &["d"]).await
}

async fn rename_moves_a_directory_with_all_below(at: &Place<'_>) -> Outcome {
    for dir in ["a", "a/x", "a/x/empty", "a2"] {
        at.mkdir(dir).await?;
    }
    for file in ["a/f", "a/x/f", "a2/f", "a.f"] {
        at.put(file, file.as_bytes()).await?;
    }
    at.rename("a", "b").await?;
    at.expect_none("a").await?;
    at.expect_none("a/f").await?;
    at.expect_names("", &["a.f", "a2", "b"]).await?;
    at.expect_names("b", &["f", "x"]).await?;
    at.expect_names("b/x", &["empty", "f"]).await?;
    at.expect_names("b/x/empty", &[]).await?;
    at.expect_bytes("b/x/f", b"a/x/f").await?;
    at.expect_bytes("a2/f", b"a2/f").await
}

/// Not even an empty directory, and nothing is moved into a directory (as HDFS and `mv` do).
async fn rename_replaces_nothing(at: &Place<'_>) -> Outcome {
    for dir in ["dir", "empty", "other"] {
        at.mkdir(dir).await?;
    }
    for file in ["dir/f", "file", "file2"] {
        at.put(file, file.as_bytes()).await?;
    }
    let pairs = [("file", "file2"), ("file", "empty"), ("file", "dir"), ("dir", "file"), ("dir", "empty")];
    for (from, to) in pairs.into_iter().chain([("dir", "other"), ("other", "dir")]) {
        let kind = at.rename(from, to).await.err().map(|error| error.kind);
        ensure!(kind == Some(ErrorKind::AlreadyExists), "{from} to {to} gave {kind:?}");
    }
    at.expect_names("", &["dir", "empty", "file", "file2", "other"]).await?;
    at.expect_names("empty", &[]).await?;
    at.expect_names("other", &[]).await?;
    for file in ["dir/f", "file", "file2"] {
        at.expect_bytes(file, file.as_bytes()).await?;
    }
    Ok(())
}

async fn rename_into_itself_loses_nothing(at: &Place<'_>) -> Outcome {
    at.mkdir("d").await?;
    at.put("d/f", b"x").await?;
    ensure!(at.rename("d", "d/below").await.is_err(), "a directory was moved below itself");
    // To itself: whether it is an error is the store's choice.
    let _: Result<(), StoreError> = at.rename("d", "d").await;
    at.expect_names("d", &["f"]).await?;
    at.expect_bytes("d/f", b"x").await
}

async fn rename_of_nothing_is_not_found(at: &Place<'_>) -> Outcome {
    at.mkdir("d").await?;
    for from in ["none", "none/below"] {
        let kind = at.rename(from, "d/x").await.err().map(|error| error.kind);
        ensure!(kind == Some(ErrorKind::NotFound), "{kind:?} for {from}");
    }
    at.expect_names("d", &[]).await
}

/// At the root; elsewhere it is a name like any other. What lies below it can be reached.
async fn the_reserved_name_is_not_listed(at: &Place<'_>) -> Outcome {
    let top = join(&RelPath::root(), RESERVED);
    let aside = join(&top, "conformance");
    at.store.mkdir(&top, &Meta::dir()).await?;
    at.store.mkdir(&aside, &Meta::dir()).await?;
    at.put("f", b"x").await?;
    at.store.rename(&at.path("f"), &join(&aside, "f")).await?;
    let root = at.list_at(&RelPath::root()).await?;
    ensure!(!root.contains_key(RESERVED.as_bytes()), "the root's listing shows it");
    ensure!(root.contains_key(at.dir.name()), "the root's listing does not show {}", at.dir);
    let kept: Vec<_> = at.list_at(&aside).await?.into_keys().collect();
    ensure!(kept == [b"f"], "what was moved below it is lost: {:?}", texts(&kept));
    at.store.remove_tree(&aside).await?;
    at.mkdir(RESERVED).await?;
    at.expect_names("", &[RESERVED]).await
}

async fn links_are_kept_or_refused(at: &Place<'_>) -> Outcome {
    if !at.store.capabilities().symlinks {
        let kind = at.link("l", b"f").await.err().map(|error| error.kind);
        ensure!(kind == Some(ErrorKind::Unsupported), "put_link gave {kind:?}");
        return at.expect_names("", &[]).await;
    }
    at.put("f", b"abc").await?;
    for target in [&b"f"[..], b"none/at all", b"/etc/hostname", b"../\xff"] {
        at.link("l", target).await?;
        let meta = at.look("l").await?;
        ensure!((meta.kind, meta.len) == (Kind::Symlink, 0), "{meta:?}");
        ensure!(meta.target.as_deref() == Some(target), "points to {:?}", meta.target);
        let listed = at.list("").await?.remove(&b"l"[..]);
        ensure!(listed.as_ref().and_then(|meta| meta.target.as_deref()) == Some(target), "listed as {listed:?}");
    }
    at.link("f", b"l").await?;
    ensure!(at.look("f").await?.kind == Kind::Symlink, "a link did not replace the file");
    at.put("f", b"new").await?;
    at.expect_bytes("f", b"new").await
}

async fn links_are_never_followed(at: &Place<'_>) -> Outcome {
    if !at.store.capabilities().symlinks {
        return Ok(());
    }
    at.mkdir("d").await?;
    at.put("d/f", b"abc").await?;
    at.link("to dir", b"d").await?;
    at.link("to file", b"d/f").await?;
    let before = (at.look("d").await?, at.look("d/f").await?);
    at.expect_none("to dir/f").await?;
    ensure!(at.list("to dir").await.is_err(), "a link was listed");
    ensure!(at.store.read(&at.path("to file"), &before.1).await.is_err(), "a link was read");
    ensure!(at.put("to dir/new", b"x").await.is_err(), "a file was put through a link");
    ensure!(at.mkdir("to dir/new").await.is_err(), "a directory was made through a link");
    at.store.remove(&[at.path("to dir/f"), at.path("to file")]).await?;
    // Whether these are errors is the store's choice.
    let attrs = at.attrs(Meta::dir(), 1_000_000_000, 0o700);
    let _: Result<(), StoreError> = at.store.set_attrs(&at.path("to dir"), &attrs).await;
    let _: Result<(), StoreError> = at.store.remove_tree(&at.path("to dir")).await;
    at.expect_none("to file").await?;
    at.expect_names("d", &["f"]).await?;
    at.expect_bytes("d/f", b"abc").await?;
    let after = (at.look("d").await?, at.look("d/f").await?);
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}

async fn sync_returns(at: &Place<'_>) -> Outcome {
    at.put("f", b"x").await?;
    at.store.sync().await?;
    at.expect_bytes("f", b"x").await
}

/// Where one check does its work: its own directory of the store.
struct Place<'a> {
    store: &'a dyn Store,
    limits: &'a Limits,
    dir: RelPath,
}

impl Place<'_> {
    fn path(&self, below: &str) -> RelPath {
        if below.is_empty() { self.dir.clone() } else { join(&self.dir, below) }
    }

    async fn put(&self, below: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let body = Body::Whole(Bytes::copy_from_slice(bytes));
        self.store.put(&self.path(below), &Meta::file(bytes.len() as u64), body).await
    }

    async fn put_stream(&self, below: &str, len: u64, chunks: Chunks) -> Result<(), StoreError> {
        self.store.put(&self.path(below), &Meta::file(len), Body::Stream(chunks)).await
    }

    /// Small files `0000`, `0001`, … in the directory `below`, many at a time.
    async fn put_many(&self, below: &str, count: usize) -> Outcome {
        let dir = self.path(below);
        let puts = stream::iter(0..count).map(|nr| {
            let path = join(&dir, numbered(nr));
            async move { self.store.put(&path, &Meta::file(1), Body::Whole(Bytes::from_static(b"x"))).await }
        });
        puts.buffer_unordered(64).try_collect::<()>().await?;
        Ok(())
    }

    async fn mkdir(&self, below: &str) -> Result<(), StoreError> {
        self.store.mkdir(&self.path(below), &Meta::dir()).await
    }

    async fn link(&self, below: &str, target: &[u8]) -> Result<(), StoreError> {
        let meta = Meta { kind: Kind::Symlink, target: Some(target.to_vec()), ..Meta::file(0) };
        self.store.put_link(&self.path(below), &meta).await
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.store.rename(&self.path(from), &self.path(to)).await
    }

    async fn look(&self, below: &str) -> Result<Meta, Broken> {
        self.look_at(&self.path(below)).await
    }

    async fn look_at(&self, path: &RelPath) -> Result<Meta, Broken> {
        self.store.lookup(path).await?.ok_or_else(|| Broken(format!("{path} is not there")))
    }

    async fn list(&self, below: &str) -> Result<BTreeMap<Vec<u8>, Meta>, Broken> {
        self.list_at(&self.path(below)).await
    }

    async fn list_at(&self, dir: &RelPath) -> Result<BTreeMap<Vec<u8>, Meta>, Broken> {
        let mut entries = BTreeMap::new();
        let mut listing = self.store.list(dir);
        while let Some(listed) = listing.try_next().await? {
            match listed {
                Listed::Entry(entry) => {
                    let doubled = entries.insert(entry.name.clone(), entry.meta).is_some();
                    ensure!(!doubled, "{:?} is listed twice in {dir}", text(&entry.name));
                }
                Listed::Odd(odd) => ensure!(false, "{:?} in {dir} is called odd: {}", text(&odd.name), odd.reason),
            }
        }
        Ok(entries)
    }

    async fn bytes(&self, below: &str) -> Result<Vec<u8>, Broken> {
        self.bytes_at(&self.path(below)).await
    }

    async fn bytes_at(&self, path: &RelPath) -> Result<Vec<u8>, Broken> {
        let seen = self.look_at(path).await?;
        let read = self.store.read(path, &seen).await?;
        let len = read.meta.len;
        let bytes = whole(read).await?;
        ensure!(bytes.len() as u64 == len, "{path}: {} bytes read of {len}", bytes.len());
        Ok(bytes)
    }

    async fn range(&self, below: &str, offset: u64, len: u64) -> Result<Vec<u8>, StoreError> {
        let pieces: Vec<Bytes> = self.store.read_range(&self.path(below), offset, len).await?.try_collect().await?;
        Ok(pieces.concat())
    }

    /// `meta` with attributes, of which the owner is in the store's own form.
    fn attrs(&self, meta: Meta, nanos: i64, mode: u32) -> Meta {
        let owner = match self.store.capabilities().owners {
            Owners::None => None,
            Owners::Ids | Owners::Any => Some(Owner::Ids { uid: 12_345, gid: 23_456 }),
            Owners::Names => Some(Owner::Names { user: "alice".into(), group: "staff".into() }),
        };
        Meta { mtime: Some(Time(nanos)), mode: Some(mode), owner, ..meta }
    }

    fn keeps_nothing(&self) -> bool {
        let can = self.store.capabilities();
        can.time_unit.is_none() && !can.modes && can.owners == Owners::None
    }

    /// What is at `below` has the attributes of `meta` as far as the store says that it keeps them.
    async fn expect_attrs(&self, below: &str, meta: &Meta, times: bool) -> Outcome {
        let (seen, can) = (self.look(below).await?, self.store.capabilities());
        ensure!(!can.modes || seen.mode == meta.mode, "{below}: mode {:?}, set {:?}", seen.mode, meta.mode);
        ensure!(
            can.owners == Owners::None || seen.owner == meta.owner,
            "{below}: owner {:?}, set {:?}",
            seen.owner,
            meta.owner
        );
        let Some(unit) = can.time_unit.filter(|_| times) else { return Ok(()) };
        let near = matches!((seen.mtime, meta.mtime), (Some(seen), Some(set)) if within(seen, set, unit));
        ensure!(near, "{below}: time {:?}, set {:?}, kept to {unit:?}", seen.mtime, meta.mtime);
        Ok(())
    }

    async fn expect_bytes(&self, below: &str, expected: &[u8]) -> Outcome {
        let bytes = self.bytes(below).await?;
        let differs = bytes.iter().zip(expected).position(|(a, b)| a != b);
        ensure!(bytes == expected, "{below}: {} bytes, not {}; {differs:?}", bytes.len(), expected.len());
        Ok(())
    }

    async fn expect_none(&self, below: &str) -> Outcome {
        let seen = self.store.lookup(&self.path(below)).await?;
        ensure!(seen.is_none(), "{below} is there: {seen:?}");
        Ok(())
    }

    /// `names` in the order of their bytes.
    async fn expect_names(&self, below: &str, names: &[&str]) -> Outcome {
        let listed: Vec<_> = self.list(below).await?.into_keys().collect();
        let same = listed.iter().map(Vec::as_slice).eq(names.iter().map(|name| name.as_bytes()));
        let lost: Vec<_> = names.iter().filter(|name| !listed.iter().any(|n| n == name.as_bytes())).collect();
        ensure!(same, "{below:?} lists {} names, not {}; without {lost:?}", listed.len(), names.len());
        Ok(())
    }
}

type Chunks = BoxStream<'static, Result<Chunk, StoreError>>;

fn join(dir: &RelPath, name: impl AsRef<[u8]>) -> RelPath {
    // Every name in this file is a proper one; the root instead would break the check that uses it.
    dir.join(name.as_ref()).unwrap_or_default()
}

fn numbered(nr: usize) -> String {
    format!("f{nr:04}")
}

fn within(a: Time, b: Time, unit: Duration) -> bool {
    u128::from(a.0.abs_diff(b.0)) < unit.as_nanos().max(1)
}

async fn whole(read: Read) -> Result<Vec<u8>, StoreError> {
    let chunks: Vec<Chunk> = read.body.into_stream().try_collect().await?;
    Ok(flat(&chunks))
}

fn flat(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        match chunk {
            Chunk::Data(data) => bytes.extend_from_slice(data),
            Chunk::Hole(len) => bytes.resize(bytes.len() + usize::try_from(*len).unwrap_or(0), 0),
        }
    }
    bytes
}

fn data(bytes: &'static [u8]) -> Chunk {
    Chunk::Data(Bytes::from_static(bytes))
}

/// Bytes without a pattern that a mistake could repeat by chance; the same for the same length.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..len).map(|_| next()).collect()
}

/// The bytes cut where no buffer ends, with empty chunks between.
fn odd_chunks(bytes: &[u8]) -> Vec<Result<Chunk, StoreError>> {
    let sizes = [1, 0, 4095, 4097, 65_537, 1_048_577, 3, 262_143];
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut chunks = Vec::new();
    for size in sizes.into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        chunks.push(Ok(Chunk::Data(rest.split_to(size.min(rest.len())))));
    }
    chunks
}

/// Names that shells, URIs, XML, encodings, listings or our own temporary files are known to spoil; `é` in both its forms.
const ODD_NAMES: &[&str] = &[
    "with space/ leads/trails /-rf/--/.hidden/.../..a/~/$HOME/`id`/!/@/^/*/?/[a]/{b}/#/it's/say \"hi\"/back\\slash/\\",
    "%20/%2F/100%/a+b/+/a:b/a;b/a,b/a|b/<x>&amp;/=/CON/Case/case/a.tmp/_SUCCESS/a._COPYING_",
    "new\nline/tab\t/return\r/\u{1}/\u{7f}/caf\u{e9}/cafe\u{301}/日本語/😀",
];

fn odd_names() -> Vec<Vec<u8>> {
    let texts = ODD_NAMES.iter().flat_map(|line| line.split('/'));
    texts.map(|text| text.as_bytes().to_vec()).chain([vec![b'n'; 120], vec![b'b', 0xff, b'x']]).collect()
}

fn text(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

fn texts(names: &[Vec<u8>]) -> Vec<String> {
    names.iter().map(|name| text(name)).collect()
}
