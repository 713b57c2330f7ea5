//! A real MinIO for tests: found or installed, started on the loopback in a directory of its own, ended
//! when dropped; and what the S3 store has to get right on it, as a list of checks for any test runner.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::env;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use syncd::store::conformance::{self, Limits};
use syncd::store::s3::{S3, S3Credentials, S3Limits, S3Options};
use syncd::store::{Body, Chunk, ErrorKind, Listed, Meta, Owner, Store, StoreError, Time};
use syncd_parsers::RelPath;
use tempfile::TempDir;

/// What is installed where there is no other: MinIO has no releases that `go install` takes.
const MODULE: &str = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c";
const ACCESS_KEY: &str = "syncdtest";
const SECRET_KEY: &str = "syncdtest-secret";
const BUCKET: &str = "syncd";
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);

/// The program: `SYNCD_MINIO`, or what an earlier run installed below the target directory, or a fresh
/// installation there (some minutes, once).
///
/// # Errors
///
/// Why there is none, for people.
pub fn available() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("SYNCD_MINIO") {
        let path = PathBuf::from(path);
        return if path.is_file() { Ok(path) } else { Err(format!("SYNCD_MINIO={} is no file", path.display())) };
    }
    let bin = target_dir().join("servers/bin");
    let program = bin.join("minio");
    if program.is_file() { Ok(program) } else { install(&bin).map(|()| program) }
}

fn target_dir() -> &'static Path {
    // Cargo's promise for integration tests: a directory `tmp` in the target directory.
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("`tmp` is in the target directory")
}

/// Test binaries run side by side: one installs, the others wait for it.
fn install(bin: &Path) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("MinIO was not installed: {what}: {error}");
    if let Err(error) = Command::new("go").arg("version").stdout(Stdio::null()).status() {
        return Err(failed("go, which would build it, does not run", error));
    }
    fs::create_dir_all(bin).map_err(|error| failed("target directory", error))?;
    let lock = File::create(bin.join(".minio.lock")).map_err(|error| failed("lock", error))?;
    lock.lock().map_err(|error| failed("lock", error))?;
    if bin.join("minio").is_file() {
        return Ok(());
    }
    let go = Command::new("go").args(["install", MODULE]).env("GOBIN", bin).output();
    let go = go.map_err(|error| failed("go", error))?;
    let said = String::from_utf8_lossy(&go.stderr);
    if go.status.success() { Ok(()) } else { Err(format!("`go install {MODULE}` failed: {}", said.trim())) }
}

/// A server with one empty bucket. Ends, and takes its files with it, when dropped.
pub struct Minio {
    pub endpoint: String,
    pub bucket: String,
    child: Child,
    dir: TempDir,
}

impl Drop for Minio {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Minio {
    /// # Errors
    ///
    /// As [`available`], or what the server said when it did not start.
    pub async fn start() -> Result<Self, String> {
        Self::start_with(&[]).await
    }

    /// With further settings in its environment.
    ///
    /// # Errors
    ///
    /// As for [`Minio::start`].
    pub async fn start_with(settings: &[(String, String)]) -> Result<Self, String> {
        let program = available()?;
        let mut last = String::new();
        // Between choosing a port and using it, somebody else may take it.
        for _ in 0..3 {
            match Self::start_once(&program, settings).await {
                Ok(server) => return Ok(server),
                Err(reason) => last = reason,
            }
        }
        Err(last)
    }

    async fn start_once(program: &Path, settings: &[(String, String)]) -> Result<Self, String> {
        let dir = TempDir::new().map_err(|error| error.to_string())?;
        let address = free_address().map_err(|error| error.to_string())?;
        let child = spawn(program, dir.path(), &address, settings)
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut server = Self { endpoint: format!("http://{address}"), bucket: BUCKET.to_owned(), child, dir };
        server.until_it_answers().await?;
        Ok(server)
    }

    async fn until_it_answers(&mut self) -> Result<(), String> {
        let (begun, client) = (Instant::now(), self.client());
        loop {
            let made = client.create_bucket().bucket(&self.bucket).send().await;
            match made {
                Ok(_) => return Ok(()),
                Err(error) if error.as_service_error().is_some_and(|e| e.is_bucket_already_owned_by_you()) => {
                    return Ok(());
                }
                Err(_) if matches!(self.child.try_wait(), Ok(Some(_))) => return Err(self.log("ended")),
                Err(_) if begun.elapsed() > STARTS_WITHIN => return Err(self.log("did not answer in time")),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    fn log(&self, what: &str) -> String {
        format!("MinIO {what}: {}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default())
    }

    pub fn options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.endpoint.clone()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(S3Credentials::new(ACCESS_KEY, SECRET_KEY)),
            ..S3Options::default()
        }
    }

    /// For the environment of a program.
    pub fn credentials(&self) -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
    }

    /// The store of what is below `prefix`.
    pub async fn store(&self, prefix: &str) -> S3 {
        S3::connect(&self.bucket, prefix, &self.options()).await.expect("a good prefix")
    }

    /// For what is done behind a store's back.
    pub fn client(&self) -> Client {
        let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
        let config = Builder::new().behavior_version(BehaviorVersion::latest()).region(Region::new("us-east-1"));
        Client::from_conf(
            config.endpoint_url(&self.endpoint).force_path_style(true).credentials_provider(credentials).build(),
        )
    }

    /// Puts an object whose bytes are its key.
    pub async fn write(&self, key: &str) -> Result<(), String> {
        let body = ByteStream::from(key.as_bytes().to_vec());
        let put = self.client().put_object().bucket(&self.bucket).key(key).body(body).send().await;
        put.map(drop).map_err(|error| format!("{key:?}: {:?}", error.into_service_error()))
    }
}

fn free_address() -> std::io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn spawn(program: &Path, dir: &Path, address: &str, settings: &[(String, String)]) -> std::io::Result<Child> {
    let log = File::create(dir.join("log"))?;
    Command::new(program)
        .args(["server", "--quiet", "--address", address, "--certs-dir"])
        .args([dir.join("certs"), dir.join("data")])
        .env("MINIO_ROOT_USER", ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", SECRET_KEY)
        .env("MINIO_BROWSER", "off")
        .env("HOME", dir)
        .envs(settings.iter().cloned())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// A check panics if the store does wrong. Checks may run side by side: each has a prefix of its own.
pub type Check = for<'a> fn(&'a Minio) -> BoxFuture<'a, ()>;

macro_rules! checks {
    ($($check:ident),* $(,)?) => {
        &[$((stringify!($check), (|server| Box::pin($check(server))) as Check)),*]
    };
}

/// What the S3 store has to get right on MinIO; each name is the promise.
pub const CHECKS: &[(&str, Check)] = checks![
    the_contract_is_kept,
    keys_below_an_object_are_found_though_listings_hide_them,
    large_files_go_and_are_copied_in_parts,
    three_thousand_files_are_renamed_and_removed,
    odd_keys_are_listed_read_and_removed,
    attributes_survive_as_rclone_writes_them,
    a_wrong_key_or_bucket_is_never_a_missing_file,
];

/// All of [`CHECKS`], one after the other.
pub async fn run(server: &Minio) {
    for (_, check) in CHECKS {
        check(server).await;
    }
}

async fn the_contract_is_kept(server: &Minio) {
    conformance::run(&server.store("contract").await, &Limits { refuses }).await;
}

/// S3 keys are UTF-8. MinIO keeps keys as files, and refuses what some file systems could not hold.
fn refuses(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_err()
}

async fn keys_below_an_object_are_found_though_listings_hide_them(server: &Minio) {
    let store = server.store("hidden").await;
    for key in ["hidden/d/a/b", "hidden/d/a", "hidden/d/z"] {
        server.write(key).await.expect("writes");
    }
    let listed = names(&store, "d").await;
    for key in ["d/a", "d/a/b", "d/z"] {
        let seen = store.lookup(&path(key)).await.expect(key);
        assert!(seen.is_some_and(|meta| !meta.is_dir()), "{key} is there, the listing shows {listed:?}");
    }
    store.remove(&[path("d/a")]).await.expect("removes");
    assert!(store.lookup(&path("d/a/b")).await.expect("looks").is_some(), "it took what is below");
    server.write("hidden/d/a").await.expect("writes");
    store.remove_tree(&path("d")).await.expect("removes");
    for key in ["d/a", "d/a/b", "d/z", "d"] {
        assert_eq!(store.lookup(&path(key)).await.expect(key), None, "{key}");
    }
}

async fn large_files_go_and_are_copied_in_parts(server: &Minio) {
    let limits = S3Limits { copy_bytes: 8 << 20, copy_part_bytes: 5 << 20, ..S3Limits::default() };
    let options = S3Options { limits, ..server.options() };
    let store = S3::connect(&server.bucket, "large", &options).await.expect("a good prefix");
    let data: Bytes = (0..(40 << 20) + 11_u32).map(|nr| (nr.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let hole = 3 << 20;
    let chunks = [Chunk::Data(data.clone()), Chunk::Hole(hole)];
    let attrs = Meta {
        mode: Some(0o640),
        mtime: Some(Time(1_700_000_000_000_000_001)),
        ..Meta::file(data.len() as u64 + hole)
    };
    let body = Body::Stream(stream::iter(chunks.into_iter().map(Ok)).boxed());
    store.put(&path("f"), &attrs, body).await.expect("puts");
    store.rename(&path("f"), &path("g h")).await.expect("renames");
    store.set_attrs(&path("g h"), &Meta { mode: Some(0o600), ..Meta::file(0) }).await.expect("sets");
    let seen = store.lookup(&path("g h")).await.expect("looks").expect("is there");
    assert_eq!((seen.len, seen.mode, seen.mtime), (attrs.len, Some(0o600), attrs.mtime));
    let got = bytes(&store, "g h").await;
    assert!(got.starts_with(&data) && got[data.len()..].iter().all(|byte| *byte == 0), "other bytes came back");
    let range = store.read_range(&path("g h"), (16 << 20) - 3, 7).await.expect("reads");
    let range: Vec<Bytes> = range.try_collect().await.expect("reads");
    assert_eq!(range.concat(), data[(16 << 20) - 3..(16 << 20) + 4]);
    assert_eq!(store.lookup(&path("f")).await.expect("looks"), None);
}

async fn three_thousand_files_are_renamed_and_removed(server: &Minio) {
    let store = server.store("many").await;
    let puts = stream::iter(0..3000).map(|nr| {
        let (store, path) = (store.clone(), path(&format!("d/{}/f{nr:04}", nr % 3)));
        async move { store.put(&path, &Meta::file(1), Body::Whole("x".into())).await }
    });
    puts.buffer_unordered(32).try_collect::<()>().await.expect("puts");
    store.rename(&path("d"), &path("e")).await.expect("renames");
    assert_eq!(store.lookup(&path("d")).await.expect("looks"), None);
    for sub in ["e/0", "e/1", "e/2"] {
        assert_eq!(names(&store, sub).await.len(), 1000, "{sub}");
    }
    store.remove_tree(&path("e")).await.expect("removes");
    assert!(names(&store, "").await.is_empty());
}

async fn odd_keys_are_listed_read_and_removed(server: &Minio) {
    let store = server.store("odd").await;
    let good = "a b/a+b/100%/a%2Fb/ü/日本/😀/new\nline/cr\rx/\u{1}/q?x=1/#h/a&b<c>/'\"/*/back\\slash";
    let good: Vec<&str> = good.split('/').collect();
    for key in &good {
        server.write(&format!("odd/{key}")).await.expect("writes");
    }
    for key in ["odd/a//b", "odd/./c"] {
        let refused = server.write(key).await.expect_err("MinIO cannot hold it");
        assert!(refused.contains("XMinioInvalid"), "{refused}");
    }
    let mut expected = good.clone();
    expected.sort_unstable();
    assert_eq!(names(&store, "").await, expected);
    for key in &good {
        assert_eq!(bytes(&store, key).await, format!("odd/{key}").as_bytes(), "{key:?}");
        let moved = format!("moved/{key}");
        store.rename(&path(key), &path(&moved)).await.expect(key);
        assert_eq!(bytes(&store, &moved).await, format!("odd/{key}").as_bytes(), "{key:?}");
    }
    let all: Vec<RelPath> = good.iter().map(|key| path(&format!("moved/{key}"))).collect();
    store.remove(&all).await.expect("removes");
    assert_eq!(store.lookup(&path("moved")).await.expect("looks"), None);
}

async fn attributes_survive_as_rclone_writes_them(server: &Minio) {
    let store = server.store("attrs").await;
    let client = server.client();
    let put = client
        .put_object()
        .bucket(&server.bucket)
        .key("attrs/f")
        .metadata("mtime", "1354040105.5")
        .metadata("mode", "100664");
    put.metadata("uid", "1000").metadata("gid", "100").body(ByteStream::from_static(b"x")).send().await.expect("puts");
    let seen = store.lookup(&path("f")).await.expect("looks").expect("is there");
    let owner = Some(Owner::Ids { uid: 1000, gid: 100 });
    assert_eq!((seen.mtime, seen.mode, seen.owner), (Some(Time(1_354_040_105_500_000_000)), Some(0o664), owner));
    let owner = Some(Owner::Names { user: "Jürgen".to_owned(), group: "日 本".to_owned() });
    store.set_attrs(&path("f"), &Meta { owner: owner.clone(), ..Meta::file(1) }).await.expect("sets");
    let seen = store.lookup(&path("f")).await.expect("looks").expect("is there");
    assert_eq!((seen.mode, seen.owner), (Some(0o664), owner));
}

async fn a_wrong_key_or_bucket_is_never_a_missing_file(server: &Minio) {
    let wrong = S3Options { credentials: Some(S3Credentials::new("nobody-known", SECRET_KEY)), ..server.options() };
    let store = S3::connect(&server.bucket, "", &wrong).await.expect("connects lazily");
    conformance::run_out_of_reach(&store).await;
    assert_eq!(store.lookup(&path("f")).await.map_err(|error| error.kind), Err(ErrorKind::PermissionDenied));
    let store = S3::connect("no-such-bucket", "", &server.options()).await.expect("connects lazily");
    assert_eq!(store.identity().await.map_err(|error| error.kind), Err(ErrorKind::NotFound));
    assert_eq!(store.lookup(&path("f")).await.map_err(|error| error.kind), Err(ErrorKind::Other));
}

fn path(text: &str) -> RelPath {
    RelPath::new(text).expect(text)
}

/// The names in `dir` in order; directories end in a slash, the odd have their reason.
async fn names(store: &S3, dir: &str) -> Vec<String> {
    let text = |name: Vec<u8>| String::from_utf8(name).expect("tests use UTF-8");
    let listed: Result<Vec<Listed>, StoreError> = store.list(&path(dir)).try_collect().await;
    let mut names: Vec<String> = listed
        .expect(dir)
        .into_iter()
        .map(|listed| match listed {
            Listed::Entry(entry) if entry.meta.is_dir() => text(entry.name) + "/",
            Listed::Entry(entry) => text(entry.name),
            Listed::Odd(odd) => format!("{}: {}", text(odd.name), odd.reason),
        })
        .collect();
    names.sort();
    names
}

async fn bytes(store: &S3, at: &str) -> Vec<u8> {
    let seen = store.lookup(&path(at)).await.expect(at).expect(at);
    let chunks = store.read(&path(at), &seen).await.expect(at).body.into_stream();
    let chunks: Vec<Chunk> = chunks.try_collect().await.expect(at);
    let data = chunks.into_iter().map(|chunk| match chunk {
        Chunk::Data(data) => data,
        Chunk::Hole(_) => panic!("S3 has no holes"),
    });
    data.collect::<Vec<_>>().concat()
}
