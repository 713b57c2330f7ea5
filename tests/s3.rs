//! The S3 store against a server in this process: the contract, and what is special about keys.

mod common;

use ::s3s::S3ErrorCode;
use bytes::Bytes;
use common::s3s;
use futures::TryStreamExt;
use std::collections::BTreeMap;
use syncd::store::conformance::{self, Limits};
use syncd::store::s3::{S3, S3Limits, S3Options};
use syncd::store::{Body, Chunk, ErrorKind, Listed, Meta, Owner, Store, StoreError, Time};
use syncd_parsers::RelPath;

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect(text)
}

/// S3 keys are UTF-8; all else can be a key.
fn limits() -> Limits {
    Limits { refuses: |name| std::str::from_utf8(name).is_err() }
}

/// The names in `dir`; directories end in a slash, the odd have their reason.
async fn names(store: &S3, dir: &str) -> Result<Vec<String>, StoreError> {
    let text = |name: Vec<u8>| String::from_utf8(name).expect("tests use UTF-8");
    let listed: Vec<Listed> = store.list(&path(dir)).try_collect().await?;
    let mut names: Vec<String> = listed
        .into_iter()
        .map(|listed| match listed {
            Listed::Entry(entry) if entry.meta.is_dir() => text(entry.name) + "/",
            Listed::Entry(entry) => text(entry.name),
            Listed::Odd(odd) => format!("{}: {}", text(odd.name), odd.reason),
        })
        .collect();
    names.sort();
    Ok(names)
}

async fn put(store: &S3, at: &str, bytes: impl Into<Bytes>) {
    let bytes = bytes.into();
    store.put(&path(at), &Meta::file(bytes.len() as u64), Body::Whole(bytes)).await.expect(at);
}

async fn bytes(store: &S3, at: &str) -> Vec<u8> {
    let seen = store.lookup(&path(at)).await.expect(at).expect(at);
    let chunks = store.read(&path(at), &seen).await.expect(at).body.into_stream();
    let chunks: Vec<Chunk> = chunks.try_collect().await.expect(at);
    let data = chunks.iter().map(|chunk| match chunk {
        Chunk::Data(data) => data.clone(),
        Chunk::Hole(_) => panic!("S3 has no holes"),
    });
    data.collect::<Vec<_>>().concat()
}

fn kind<T>(result: Result<T, StoreError>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

#[tokio::test]
async fn a_whole_bucket_keeps_the_contract() {
    let server = s3s::start().await;
    conformance::run(&server.store("").await, &limits()).await;
}

#[tokio::test]
async fn a_prefix_keeps_the_contract_and_touches_nothing_outside() {
    let server = s3s::start().await;
    server.write(&["p", "p/q", "p/qx", "p/q-/f", "z"]);
    conformance::run(&server.store("p/q").await, &limits()).await;
    let outside: Vec<String> = server.keys().into_iter().filter(|key| !key.starts_with("p/q/")).collect();
    assert_eq!(outside, ["p", "p/q", "p/q-/f", "p/qx", "z"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_never_says_not_found() {
    let server = s3s::start().await;
    let options = S3Options { endpoint: Some("http://127.0.0.1:1".to_owned()), ..server.options() };
    let store = S3::connect("bucket", "", &options).await.expect("connects lazily");
    conformance::run_out_of_reach(&store).await;
}

#[tokio::test]
async fn a_bucket_that_vanished_never_says_that_a_file_is_gone() {
    let server = s3s::start().await;
    let store = server.store("p").await;
    let before = store.identity().await.expect("it is there");
    assert_eq!(before, format!("s3://{}/bucket/p", server.endpoint.trim_start_matches("http://")));
    server.drop_bucket();
    assert_eq!(kind(store.identity().await), Some(ErrorKind::NotFound));
    let error = store.create_root().await.expect_err("syncd makes no buckets");
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.cause.expect("a hint").to_string().contains("create the bucket `bucket` first"));
    let other = Some(ErrorKind::Other);
    assert_eq!(kind(store.lookup(&path("f")).await), other);
    assert_eq!(kind(store.lookup(&RelPath::root()).await), other);
    assert_eq!(kind(names(&store, "").await), other);
    assert_eq!(kind(store.read(&path("f"), &Meta::file(1)).await), other);
    assert_eq!(kind(store.read_range(&path("f"), 0, 1).await), other);
    assert_eq!(kind(store.remove(&[path("f")]).await), other);
}

#[tokio::test]
async fn a_refusal_is_never_not_found() {
    let server = s3s::start().await;
    let store = server.store("").await;
    put(&store, "f", "x").await;
    for (code, expected) in [
        (S3ErrorCode::AccessDenied, ErrorKind::PermissionDenied),
        (S3ErrorCode::SlowDown, ErrorKind::Throttled),
        (S3ErrorCode::InternalError, ErrorKind::Unavailable),
        (S3ErrorCode::InvalidRequest, ErrorKind::Other),
    ] {
        server.fail("head", code.clone(), usize::MAX);
        assert_eq!(kind(store.lookup(&path("f")).await), Some(expected), "{}", code.as_str());
        server.heal();
    }
}

#[tokio::test]
async fn a_failing_request_is_tried_again_a_few_times() {
    let server = s3s::start().await;
    let store = server.store("").await;
    server.fail("put", S3ErrorCode::InternalError, 2);
    put(&store, "f", "x").await;
    assert_eq!(server.requests(), ["put", "put", "put"]);
}

#[tokio::test]
async fn looking_at_a_file_costs_one_request() {
    let server = s3s::start().await;
    let store = server.store("").await;
    server.write(&["f", "d/", "e/x"]);
    for (at, requests) in
        [("f", &["head"][..]), ("none", &["head", "list"]), ("d", &["head", "list", "head"]), ("e", &["head", "list"])]
    {
        store.lookup(&path(at)).await.expect(at);
        assert_eq!(server.requests(), requests, "{at}");
    }
}

#[tokio::test]
async fn keys_that_no_path_can_name_are_listed_as_odd() {
    let server = s3s::start().await;
    let store = server.store("").await;
    server.write(&["/", "//x", "a//b", "a/./c", "a/..", "a/f", ".", "b/"]);
    let (empty, dots) = ("an empty name between two slashes", "a name that is `.` or `..`");
    assert_eq!(
        names(&store, "").await.expect("lists"),
        [format!(".: {dots}"), format!("/: {empty}"), "a/".to_owned(), "b/".to_owned(),]
    );
    assert_eq!(
        names(&store, "a").await.expect("lists"),
        [format!("..: {dots}"), format!("./: {dots}"), format!("/: {empty}"), "f".to_owned(),]
    );
    let odd = names(&store, "b").await.expect("lists");
    assert_eq!(odd, [": an object that holds bytes and whose key ends in a slash"]);
}

#[tokio::test]
async fn a_key_that_is_an_object_and_a_prefix_is_odd_once_even_pages_apart() {
    let server = s3s::start().await;
    let store = server.store("").await;
    let between: Vec<String> = (0..2500).map(|nr| format!("d/a-{nr:04}")).collect();
    server.write(&between.iter().map(String::as_str).collect::<Vec<_>>());
    server.write(&["d/a", "d/a/b", "d/z"]);
    let listed = names(&store, "d").await.expect("lists");
    assert_eq!(listed.len(), 2502);
    assert!(listed.contains(&"a: both an object and a prefix".to_owned()), "{:?}", listed.first());
    // A look asks for one thing at a time.
    assert_eq!(store.lookup(&path("d/a")).await.expect("looks").map(|meta| meta.is_dir()), Some(false));
    assert!(store.lookup(&path("d/a/b")).await.expect("looks").is_some());
}

#[tokio::test]
async fn keys_that_a_listing_hides_are_found_by_name_and_removed_with_their_tree() {
    let server = s3s::start().await;
    let store = server.store("").await;
    server.hide_below_objects();
    server.write(&["t/a", "t/a/b", "t/a/b/c", "t2/a", "t2/a/b"]);
    assert_eq!(names(&store, "t").await.expect("lists"), ["a"]);
    assert!(store.lookup(&path("t/a/b/c")).await.expect("looks").is_some());
    store.remove_tree(&path("t")).await.expect("removes");
    assert_eq!(server.keys(), ["t2/a", "t2/a/b"]);
}

#[tokio::test]
async fn a_key_that_could_not_be_deleted_is_an_error() {
    let server = s3s::start().await;
    let store = server.store("").await;
    server.write(&["d/a", "d/b", "d/c"]);
    server.refuse_to_delete("d/b");
    let error = store.remove(&[path("d/a"), path("d/b")]).await.expect_err("one is refused");
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.cause.expect("a cause").to_string().contains("d/b"));
    assert_eq!(kind(store.remove_tree(&path("d")).await), Some(ErrorKind::PermissionDenied));
    assert_eq!(server.keys(), ["d/b"]);
}

#[tokio::test]
async fn a_server_without_batches_deletes_one_by_one() {
    let server = s3s::start().await;
    let store = server.store("").await;
    server.write(&["d/a", "d/b"]);
    server.fail("delete many", S3ErrorCode::NotImplemented, 1);
    store.remove(&[path("d/a"), path("d/b")]).await.expect("removes");
    assert!(server.keys().is_empty());
    assert_eq!(server.requests(), ["delete many", "delete", "delete"]);
}

#[tokio::test]
async fn the_root_is_neither_removed_nor_written_nor_moved() {
    let server = s3s::start().await;
    let store = server.store("").await;
    server.write(&["a"]);
    let (root, refused) = (RelPath::root(), Some(ErrorKind::Unsupported));
    assert_eq!(kind(store.remove_tree(&root).await), refused);
    assert_eq!(kind(store.remove(std::slice::from_ref(&root)).await), refused);
    assert_eq!(kind(store.put(&root, &Meta::file(0), Body::Whole(Bytes::new())).await), refused);
    assert_eq!(kind(store.rename(&root, &path("b")).await), refused);
    store.mkdir(&root, &Meta::dir()).await.expect("it is there");
    assert_eq!(server.keys(), ["a"]);
}

#[tokio::test]
async fn names_that_no_key_can_spell_are_refused_and_not_there() {
    let server = s3s::start().await;
    let store = server.store("p").await;
    let bad = RelPath::new(vec![b'a', 0xff]).expect("a path");
    for path in [bad, path(&"x".repeat(1023))] {
        let put = store.put(&path, &Meta::file(0), Body::Whole(Bytes::new())).await;
        assert_eq!(kind(put), Some(ErrorKind::Unsupported), "{path}");
        assert_eq!(store.lookup(&path).await.expect("looks"), None);
        assert_eq!(kind(store.list(&path).try_collect::<Vec<_>>().await), Some(ErrorKind::NotFound));
        store.remove(std::slice::from_ref(&path)).await.expect("nothing to remove");
        store.remove_tree(&path).await.expect("nothing to remove");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn attributes_are_in_the_metadata_that_rclone_uses() {
    let server = s3s::start().await;
    let store = server.store("").await;
    let owner = Some(Owner::Ids { uid: 7, gid: 8 });
    let attrs = Meta { mtime: Some(Time(1_500_000_000_000_000_001)), mode: Some(0o640), owner, ..Meta::file(1) };
    store.put(&path("f"), &attrs, Body::Whole("x".into())).await.expect("puts");
    store.mkdir(&path("d"), &Meta { mode: Some(0o750), ..Meta::dir() }).await.expect("makes");
    let metadata = |key: &str| BTreeMap::from_iter(server.object(key).expect(key).metadata);
    let expected = [("gid", "8"), ("mode", "100640"), ("mtime", "1500000000.000000001"), ("uid", "7")];
    assert_eq!(metadata("f"), expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(metadata("d/"), [("mode".to_owned(), "040750".to_owned())].into());
}

#[tokio::test]
async fn new_attributes_keep_content_and_what_other_tools_left() {
    let server = s3s::start().await;
    let store = server.store("").await;
    server.write_with("a b+c%", "text/plain", &[("mode", "100600"), ("colour", "blue")]);
    let time = Meta { mtime: Some(Time(5)), ..Meta::file(1) };
    store.set_attrs(&path("a b+c%"), &time).await.expect("sets");
    let after = server.object("a b+c%").expect("is there");
    assert_eq!((&after.bytes[..], after.content_type.as_deref()), (&b"a b+c%"[..], Some("text/plain")));
    assert_eq!(after.metadata.get("colour").map(String::as_str), Some("blue"));
    let seen = store.lookup(&path("a b+c%")).await.expect("looks").expect("is there");
    assert_eq!((seen.mtime, seen.mode), (Some(Time(5)), Some(0o600)));
}

#[tokio::test]
async fn names_of_owners_are_kept() {
    let server = s3s::start().await;
    let store = server.store("").await;
    let owner = Some(Owner::Names { user: "Jürgen".to_owned(), group: "日 本".to_owned() });
    store
        .put(&path("f"), &Meta { owner: owner.clone(), ..Meta::file(0) }, Body::Whole(Bytes::new()))
        .await
        .expect("puts");
    assert_eq!(store.lookup(&path("f")).await.expect("looks").expect("is there").owner, owner);
}

const SMALL: S3Limits = S3Limits { part_bytes: 5 << 20, copy_bytes: 6 << 20, copy_part_bytes: 5 << 20 };

#[tokio::test]
async fn large_files_go_in_parts_and_are_copied_in_parts() {
    let server = s3s::start().await;
    let store = server.store_with("", SMALL).await;
    let data: Vec<u8> = (0..(12 << 20) + 7_u32).map(|nr| (nr.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let attrs = Meta { mode: Some(0o640), mtime: Some(Time(9)), ..Meta::file(data.len() as u64) };
    store.put(&path("big"), &attrs, Body::Whole(data.clone().into())).await.expect("puts");
    assert_eq!(server.requests(), ["begin parts", "part", "part", "part", "join parts"]);
    store.rename(&path("big"), &path("moved")).await.expect("renames");
    assert_eq!(server.requests().iter().filter(|request| **request == "copy part").count(), 3);
    store.set_attrs(&path("moved"), &Meta { mode: Some(0o600), ..Meta::file(0) }).await.expect("sets");
    let seen = store.lookup(&path("moved")).await.expect("looks").expect("is there");
    assert_eq!((seen.mode, seen.mtime), (Some(0o600), Some(Time(9))));
    assert!(bytes(&store, "moved").await == data, "other bytes came back");
    assert_eq!(server.keys(), ["moved"]);
}

#[tokio::test]
async fn parts_of_an_upload_that_failed_are_given_up() {
    let server = s3s::start().await;
    let store = server.store_with("", SMALL).await;
    let big = || Body::Whole(vec![0; 12 << 20].into());
    for request in ["part", "join parts"] {
        server.fail(request, S3ErrorCode::AccessDenied, 1);
        let put = store.put(&path("big"), &Meta::file(12 << 20), big()).await;
        assert_eq!(kind(put), Some(ErrorKind::PermissionDenied), "{request}");
        assert_eq!((server.open_uploads(), server.keys().len()), (0, 0), "{request}");
    }
}

#[tokio::test]
async fn what_is_too_large_for_s3_is_refused_before_a_byte_is_read() {
    let server = s3s::start().await;
    let store = server.store("").await;
    let body = Body::Stream(Box::pin(futures::stream::pending()));
    let put = store.put(&path("huge"), &Meta::file((5 << 40) + 1), body).await;
    assert_eq!(kind(put), Some(ErrorKind::Unsupported));
}

#[tokio::test]
async fn a_file_that_was_replaced_after_the_look_is_changed() {
    let server = s3s::start().await;
    let store = server.store("").await;
    put(&store, "f", "old").await;
    let seen = store.lookup(&path("f")).await.expect("looks").expect("is there");
    put(&store, "f", "new").await;
    assert_eq!(kind(store.read(&path("f"), &seen).await), Some(ErrorKind::Changed));
}

#[tokio::test]
async fn a_listing_shows_tags_that_a_look_confirms() {
    let server = s3s::start().await;
    let store = server.store("").await;
    put(&store, "f", "x").await;
    let listed: Vec<Listed> = store.list(&RelPath::root()).try_collect().await.expect("lists");
    let [Listed::Entry(entry)] = &listed[..] else { panic!("{listed:?}") };
    let seen = store.lookup(&path("f")).await.expect("looks").expect("is there");
    assert!(entry.meta.tag.is_some() && entry.meta.tag == seen.tag, "{listed:?} and {seen:?}");
    assert_eq!((entry.meta.complete, entry.meta.mtime), (false, None));
}
