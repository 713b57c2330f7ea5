//! What `Local` promises beyond the contract: links swapped in, crashes, holes, files that change under a reader.

use super::*;
use crate::store::conformance::{self, Limits};
use crate::store::{Chunk, Kind, Owner, Time};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

/// A folder with a store's root `root` and, beside it, what the store must never touch.
struct Folder {
    dir: TempDir,
    store: Local,
}

impl Folder {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("outside")).expect("made");
        fs::write(dir.path().join("outside/file"), "outside").expect("written");
        let store = Local::open(&dir.path().join("root")).expect("absolute");
        store.create_root().await.expect("root made");
        Self { dir, store }
    }

    fn at(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn root(&self, below: &str) -> PathBuf {
        self.at("root").join(below)
    }

    async fn put(&self, path: &str, bytes: &'static [u8]) -> Result<(), StoreError> {
        let body = Body::Whole(Bytes::from_static(bytes));
        self.store.put(&rel(path), &Meta::file(bytes.len() as u64), body).await
    }

    async fn read(&self, path: &str) -> Result<Read, StoreError> {
        self.store.read(&rel(path), &Meta::file(0)).await
    }

    fn aside(&self) -> Vec<String> {
        names(&self.root(".syncd/tmp"))
    }

    /// The outside is as it was made.
    #[track_caller]
    fn expect_outside_untouched(&self) {
        assert_eq!(names(&self.at("outside")), ["file"]);
        assert_eq!(fs::read(self.at("outside/file")).expect("read"), b"outside");
        assert_eq!(fs::metadata(self.at("outside")).expect("stat").permissions().mode() & 0o7777, 0o755);
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path).expect(path)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("listed");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn kind<T>(result: Result<T, StoreError>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

fn chunks(chunks: Vec<Result<Chunk, StoreError>>) -> Body {
    Body::Stream(stream::iter(chunks).boxed())
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let folder = Folder::new().await;
    conformance::run(&folder.store, &Limits::default()).await;
    assert_eq!(folder.aside(), [""; 0], "left aside");
}

#[tokio::test]
async fn it_keeps_the_contract_where_each_file_is_made_durable_by_itself() {
    let folder = Folder::new().await;
    let mut root = Root::open(&folder.at("root")).expect("opened");
    root.durability = Durability::Each;
    folder.store.shared.held().root = Some(Arc::new(root));
    conformance::run(&folder.store, &Limits::default()).await;
    assert_eq!(folder.aside(), [""; 0], "left aside");
}

#[tokio::test]
async fn without_a_root_nothing_is_said_of_what_is_below() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = Local::open(&dir.path().join("none")).expect("absolute");
    assert_eq!(kind(store.identity().await), Some(ErrorKind::NotFound));
    assert_eq!(kind(store.lookup(&rel("f")).await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(store.list(&RelPath::root()).try_collect::<Vec<_>>().await), Some(ErrorKind::Unavailable));
    assert_eq!(kind(store.remove(&[rel("f")]).await), Some(ErrorKind::Unavailable));
}

#[tokio::test]
async fn another_directory_at_the_roots_path_is_named_and_not_used() {
    let folder = Folder::new().await;
    folder.put("f", b"kept").await.expect("put");
    let before = folder.store.identity().await.expect("identity");
    fs::rename(folder.at("root"), folder.at("moved away")).expect("renamed");
    assert_eq!(kind(folder.store.identity().await), Some(ErrorKind::NotFound));
    fs::create_dir(folder.at("root")).expect("made");
    assert_ne!(folder.store.identity().await.expect("identity"), before);
    assert!(folder.store.lookup(&rel("f")).await.expect("looked").is_some(), "the handle was let go");
    folder.put("g", b"x").await.expect("put");
    assert_eq!(names(&folder.at("root")), [""; 0], "the other directory was written to");
    fs::remove_dir(folder.at("root")).expect("removed");
    fs::rename(folder.at("moved away"), folder.at("root")).expect("renamed");
    assert_eq!(folder.store.identity().await.expect("identity"), before);
}

#[tokio::test]
async fn a_directory_swapped_for_a_link_leads_nowhere() {
    let folder = Folder::new().await;
    folder.store.mkdir(&rel("d"), &Meta::dir()).await.expect("made");
    folder.put("f", b"inside").await.expect("put");
    fs::remove_dir(folder.root("d")).expect("removed");
    symlink(folder.at("outside"), folder.root("d")).expect("linked");
    let attrs = Meta { mtime: Some(Time(1)), mode: Some(0o600), ..Meta::file(0) };

    assert_eq!(folder.store.lookup(&rel("d/file")).await.expect("looked"), None);
    assert_eq!(kind(folder.read("d/file").await), Some(ErrorKind::NotFound));
    assert_eq!(kind(folder.put("d/new", b"x").await), Some(ErrorKind::Other));
    assert_eq!(kind(folder.put("d/file", b"x").await), Some(ErrorKind::Other));
    assert_eq!(kind(folder.store.mkdir(&rel("d/new"), &attrs).await), Some(ErrorKind::Other));
    assert_eq!(kind(folder.store.mkdir(&rel("d"), &attrs).await), Some(ErrorKind::AlreadyExists));
    assert_eq!(kind(folder.store.set_attrs(&rel("d/file"), &attrs).await), Some(ErrorKind::Other));
    assert_eq!(kind(folder.store.rename(&rel("f"), &rel("d/f")).await), Some(ErrorKind::Other));
    assert_eq!(kind(folder.store.rename(&rel("d/file"), &rel("g")).await), Some(ErrorKind::NotFound));
    assert_eq!(kind(folder.store.remove(&[rel("d/file")]).await), None);
    assert_eq!(kind(folder.store.remove_tree(&rel("d")).await), Some(ErrorKind::Other));
    folder.store.set_attrs(&rel("d"), &attrs).await.expect("set on the link itself");
    folder.expect_outside_untouched();
    assert_eq!(folder.aside(), [""; 0], "left aside");
}

#[tokio::test]
async fn a_tree_is_removed_without_following_its_links() {
    let folder = Folder::new().await;
    fs::create_dir_all(folder.root("t/a/b")).expect("made");
    symlink(folder.at("outside"), folder.root("t/a/link")).expect("linked");
    symlink(folder.at("outside/file"), folder.root("t/file")).expect("linked");
    folder.store.remove_tree(&rel("t")).await.expect("removed");
    assert_eq!(names(&folder.at("root")), [".syncd"]);
    folder.expect_outside_untouched();
}

#[tokio::test]
async fn a_file_that_grows_while_it_is_read_has_changed() {
    let folder = Folder::new().await;
    let path = folder.root("f");
    fs::write(&path, vec![1; 5 << 20]).expect("written");
    let mut body = folder.read("f").await.expect("opened").body.into_stream();
    assert!(matches!(body.next().await, Some(Ok(Chunk::Data(_)))));
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut f| std::io::Write::write_all(&mut f, b"x"))
        .expect("grew");
    assert_eq!(kind(body.try_collect::<Vec<_>>().await), Some(ErrorKind::Changed));
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_has_changed() {
    let folder = Folder::new().await;
    let path = folder.root("f");
    fs::write(&path, vec![1; 5 << 20]).expect("written");
    let mut body = folder.read("f").await.expect("opened").body.into_stream();
    assert!(matches!(body.next().await, Some(Ok(Chunk::Data(_)))));
    fs::OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(3 << 20)).expect("shrunk");
    assert_eq!(kind(body.try_collect::<Vec<_>>().await), Some(ErrorKind::Changed));
}

#[tokio::test]
async fn what_is_no_regular_file_is_neither_waited_for_nor_taken_for_one() {
    let folder = Folder::new().await;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, folder.root("pipe"), fifo, Mode::RWXU, 0).expect("made");
    symlink(folder.at("outside/file"), folder.root("link")).expect("linked");
    assert_eq!(kind(folder.read("pipe").await), Some(ErrorKind::Changed));
    assert_eq!(kind(folder.read("link").await), Some(ErrorKind::Changed));
    assert_eq!(kind(folder.store.lookup(&rel("pipe")).await), Some(ErrorKind::Unsupported));
    let listed: Vec<_> = folder.store.list(&RelPath::root()).try_collect().await.expect("listed");
    let odd = Listed::Odd(crate::store::Odd { name: b"pipe".to_vec(), reason: NEITHER.into() });
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&odd), "{listed:?}");
}

#[tokio::test]
async fn holes_stay_holes_through_a_read_and_a_put() {
    let folder = Folder::new().await;
    let size = 64 << 20;
    let file = fs::File::create(folder.root("from")).expect("made");
    file.set_len(size).expect("sized");
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 40 << 20).expect("written");
    let read = folder.read("from").await.expect("read");
    folder.store.put(&rel("to"), &read.meta, read.body).await.expect("put");
    let copy = fs::metadata(folder.root("to")).expect("stat");
    assert_eq!(copy.len(), size);
    assert!(copy.blocks() * 512 < 1 << 20, "{} blocks", copy.blocks());
    assert!(fs::read(folder.root("to")).expect("read") == fs::read(folder.root("from")).expect("read"));
}

#[tokio::test]
async fn attributes_are_kept_to_the_nanosecond() {
    let folder = Folder::new().await;
    let nanos = 1_234_567_890_123_456_789;
    let meta = Meta { mtime: Some(Time(nanos)), mode: Some(0o4751), ..Meta::file(1) };
    folder.store.put(&rel("f"), &meta, Body::Whole("x".into())).await.expect("put");
    let kept = fs::symlink_metadata(folder.root("f")).expect("stat");
    assert_eq!((kept.mtime(), kept.mtime_nsec(), kept.mode() & 0o7777), (1_234_567_890, 123_456_789, 0o4751));
    let before_1970 = Meta { mtime: Some(Time(-1_500_000_000)), ..Meta::file(1) };
    folder.store.set_attrs(&rel("f"), &before_1970).await.expect("set");
    let seen = folder.store.lookup(&rel("f")).await.expect("looked").expect("there");
    assert_eq!(seen.mtime, before_1970.mtime);
}

#[tokio::test]
async fn a_mode_is_set_where_nobody_may_read() {
    let folder = Folder::new().await;
    folder.put("f", b"x").await.expect("put");
    let mode = |bits| Meta { mode: Some(bits), ..Meta::file(0) };
    folder.store.set_attrs(&rel("f"), &mode(0)).await.expect("closed");
    folder.store.set_attrs(&rel("f"), &mode(0o640)).await.expect("opened again");
    assert_eq!(fs::metadata(folder.root("f")).expect("stat").mode() & 0o7777, 0o640);
}

#[tokio::test]
async fn a_link_keeps_its_own_time_and_owner() {
    let folder = Folder::new().await;
    folder.put("f", b"x").await.expect("put");
    let owner = Owner::Ids { uid: 7, gid: 8 };
    let target = Some(b"f".to_vec());
    let meta = Meta { kind: Kind::Symlink, mtime: Some(Time(77)), owner: Some(owner.clone()), target, ..Meta::file(0) };
    folder.store.put_link(&rel("l"), &meta).await.expect("linked");
    let seen = folder.store.lookup(&rel("l")).await.expect("looked").expect("there");
    assert_eq!(seen.mtime, Some(Time(77)));
    assert_eq!(seen.owner == Some(owner), folder.store.capabilities().owners == Owners::Ids);
    assert_ne!(folder.store.lookup(&rel("f")).await.expect("looked").expect("there").mtime, Some(Time(77)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_puts_at_once_all_arrive() {
    let folder = Folder::new().await;
    let store = &folder.store;
    let puts = (0..1000).map(|nr| async move {
        let body = Body::Whole(format!("content {nr}").into());
        store.put(&rel(&format!("f{nr}")), &Meta::file(0), body).await
    });
    futures::future::try_join_all(puts).await.expect("put");
    for nr in 0..1000 {
        assert_eq!(fs::read_to_string(folder.root(&format!("f{nr}"))).expect("read"), format!("content {nr}"));
    }
    assert_eq!(folder.aside(), [""; 0], "left aside");
}

#[tokio::test]
async fn one_file_of_a_group_that_cannot_be_put_fails_alone() {
    let folder = Folder::new().await;
    for nr in 0..20 {
        fs::create_dir(folder.root(&format!("d{nr}"))).expect("made");
    }
    let store = &folder.store;
    let puts = (0..40).map(|nr| async move {
        store.put(&rel(&format!("d{nr}")), &Meta::file(1), Body::Whole("x".into())).await.map_err(|error| error.kind)
    });
    let ends = futures::future::join_all(puts).await;
    assert_eq!(ends[..20], vec![Err(ErrorKind::AlreadyExists); 20]);
    assert_eq!(ends[20..], vec![Ok(()); 20]);
    assert_eq!(folder.aside(), [""; 0], "left aside");
}

#[tokio::test]
async fn a_body_that_fails_leaves_nothing_not_even_aside() {
    let folder = Folder::new().await;
    let error = || StoreError::new("read", &rel("f"), ErrorKind::Changed);
    let piece = || Ok(Chunk::Data(Bytes::from_static(b"part")));
    for body in [vec![Err(error())], vec![piece(), Err(error())], vec![piece(), Ok(Chunk::Hole(9)), Err(error())]] {
        assert_eq!(kind(folder.store.put(&rel("f"), &Meta::file(9), chunks(body)).await), Some(ErrorKind::Changed));
        assert_eq!(names(&folder.at("root")), [".syncd"]);
        assert_eq!(folder.aside(), [""; 0], "left aside");
    }
}

#[tokio::test]
async fn a_put_without_a_directory_for_it_fails_before_it_writes() {
    let folder = Folder::new().await;
    assert_eq!(kind(folder.put("none/f", b"x").await), Some(ErrorKind::NotFound));
    folder.put("f", b"x").await.expect("put");
    assert_eq!(kind(folder.put("f/below", b"x").await), Some(ErrorKind::Other));
    assert_eq!(kind(folder.put("", b"x").await), Some(ErrorKind::Unsupported));
    assert_eq!(folder.aside(), [""; 0], "left aside");
}

#[tokio::test]
async fn what_a_crash_left_aside_is_removed_once_and_not_while_at_work() {
    let folder = Folder::new().await;
    fs::write(folder.root(".syncd/tmp/4711-0"), "half").expect("written");
    folder.store.create_root().await.expect("made");
    assert_eq!(folder.aside(), ["4711-0"], "this process may have files there now");
    let after_a_crash = Local::open(&folder.at("root")).expect("absolute");
    after_a_crash.create_root().await.expect("made");
    assert_eq!(folder.aside(), [""; 0]);
}

#[tokio::test]
async fn the_directory_for_temporary_files_is_made_again_and_never_through_a_link() {
    let folder = Folder::new().await;
    fs::remove_dir_all(folder.root(".syncd")).expect("removed");
    folder.put("f", b"x").await.expect("put");
    fs::remove_dir_all(folder.root(".syncd")).expect("removed");
    symlink(folder.at("outside"), folder.root(".syncd")).expect("linked");
    assert_eq!(kind(folder.put("g", b"x").await), Some(ErrorKind::Other));
    folder.expect_outside_untouched();
}

#[tokio::test]
async fn names_that_no_file_system_holds_are_refused_and_are_not_there() {
    let folder = Folder::new().await;
    let long = RelPath::new(vec![b'n'; 256]).expect("a path");
    assert_eq!(
        kind(folder.store.put(&long, &Meta::file(1), Body::Whole("x".into())).await),
        Some(ErrorKind::Unsupported)
    );
    assert_eq!(folder.store.lookup(&long).await.expect("looked"), None);
    folder.store.remove(&[long]).await.expect("well");
    assert_eq!(folder.aside(), [""; 0], "left aside");
}

#[tokio::test]
async fn a_path_may_be_longer_than_the_kernel_takes_at_once() {
    let folder = Folder::new().await;
    let mut dir = RelPath::root();
    for _ in 0..60 {
        dir = dir.join(&[b'd'; 100]).expect("a name");
        folder.store.mkdir(&dir, &Meta::dir()).await.expect("made");
    }
    let file = dir.join(b"f").expect("a name");
    folder.store.put(&file, &Meta::file(1), Body::Whole("x".into())).await.expect("put");
    assert!(folder.store.lookup(&file).await.expect("looked").is_some());
    folder.store.remove_tree(&rel(&"d".repeat(100))).await.expect("removed");
    assert_eq!(names(&folder.at("root")), [".syncd"]);
}

#[tokio::test]
async fn a_rename_where_the_flag_is_unknown_replaces_nothing_either() {
    let folder = Folder::new().await;
    for file in ["a", "b"] {
        fs::write(folder.root(file), file).expect("written");
    }
    let root = folder.store.shared.root().unwrap_or_else(|_| panic!("opened"));
    let place = |name: &'static str| (root.dir.as_fd(), name.as_bytes());
    assert_eq!(rename_if_free(place("a"), place("b")), Err(Errno::EXIST));
    assert_eq!(rename_if_free(place("none"), place("c")), Err(Errno::NOENT));
    assert_eq!(rename_if_free(place("a"), place("c")), Ok(()));
    assert_eq!(names(&folder.at("root")), [".syncd", "b", "c"]);
}

#[test]
fn files_become_durable_together_only_where_the_kernel_says_what_failed() {
    let (ext4, fuse) = (0xef53, 0x6573_5546);
    assert_eq!(Durability::of(ext4, (5, 8)), Durability::Grouped);
    assert_eq!(Durability::of(ext4, (6, 1)), Durability::Grouped);
    assert_eq!(Durability::of(ext4, (5, 4)), Durability::Each);
    assert_eq!(Durability::of(fuse, (6, 1)), Durability::Each);
}
