//! Buckets of a real MinIO whose own audit log keeps a copy in step, while clients write and syncd is killed again and
//! again. MinIO posts its log to a webhook; a collector here appends each entry to a file, as sites do.

use super::dice::Dice;
use super::live::every;
use super::minio::Minio;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::RequestId;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const CLIENTS: u64 = 3;
const KILLS: usize = 20;
/// More starts than this for so many kills would mean that passes end before they are killed.
const STARTS_MAX: usize = 200;
const KILLED_WITHIN_MS: usize = 900;
/// Of the file that the collector appends to, before it begins another one.
const ROTATE_BYTES: u64 = 300_000;
const TRIES: usize = 120;
const TRY_EVERY: Duration = Duration::from_millis(500);

/// Names that a tree can hold, too.
const TREE_KEYS: &[&str] = &[
    "a",
    "b c",
    "d/a",
    "d/b",
    "d/e+f",
    "d/100%",
    "d/%41",
    "e/caf\u{e9}",
    "e/\u{65e5}\u{672c}",
    "e/f/g",
    "e/f/q=1&r",
    "t=1/p-0",
    "t=1/p-1",
    "x/it's",
    "x/quote\"d",
    "x/#?;",
];

/// Among them keys below a key that is an object, which MinIO's listings hide.
const NESTED_KEYS: &[&str] = &[
    "a", "a/b", "a/b/c", "a/d e", "n", "n/1", "n/2/3", "n/2", "o/p", "o/p/q", "o/p/q+r", "u", "v/%2F", "w=1/x",
    "w=1/x/y",
];

/// A MinIO with the log of what it was asked.
pub struct Audited {
    minio: Minio,
    logs: TempDir,
    collector: JoinHandle<()>,
}

impl Drop for Audited {
    fn drop(&mut self) {
        self.collector.abort();
    }
}

impl Audited {
    /// # Errors
    ///
    /// As [`Minio::start`].
    pub async fn start() -> Result<Self, String> {
        let logs = tempfile::tempdir().map_err(|error| error.to_string())?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let endpoint = format!("http://{}/", listener.local_addr().map_err(|error| error.to_string())?);
        let collector = tokio::spawn(collect(listener, Arc::new(Mutex::new(logs.path().to_owned()))));
        let webhook = [
            ("MINIO_AUDIT_WEBHOOK_ENABLE_SYNCD".to_owned(), "on".to_owned()),
            ("MINIO_AUDIT_WEBHOOK_ENDPOINT_SYNCD".to_owned(), endpoint),
        ];
        Ok(Self { minio: Minio::start_with(&webhook).await?, logs, collector })
    }

    /// All that was logged so far.
    fn log(&self) -> String {
        let files = fs::read_dir(self.logs.path()).expect("a listing").map(|entry| entry.expect("an entry").path());
        files.map(|file| fs::read_to_string(file).expect("a log")).collect()
    }

    /// A new bucket.
    async fn bucket(&self, name: &str) -> Bucket {
        let client = self.minio.client();
        client.create_bucket().bucket(name).send().await.expect("a bucket");
        Bucket { client, name: name.to_owned() }
    }

    fn syncd(&self, args: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncd"));
        command.envs(self.minio.credentials()).env_remove("SYNCD_LOG").args(args).stdin(Stdio::null());
        command
    }
}

async fn collect(listener: TcpListener, dir: Arc<Mutex<PathBuf>>) {
    while let Ok((socket, _)) = listener.accept().await {
        let dir = dir.clone();
        let service = service_fn(move |request| take(request, dir.clone()));
        tokio::spawn(async move {
            // A sender that hangs up sends again.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn take(request: Request<Incoming>, dir: Arc<Mutex<PathBuf>>) -> Result<Response<Empty<Bytes>>, Infallible> {
    if let Ok(body) = request.into_body().collect().await {
        let entry = body.to_bytes();
        if !entry.trim_ascii().is_empty() {
            append(&dir.lock().expect("no panic"), entry.trim_ascii());
        }
    }
    Ok(Response::new(Empty::new()))
}

fn append(dir: &Path, entry: &[u8]) {
    let file = dir.join("audit.log");
    if fs::metadata(&file).is_ok_and(|meta| meta.len() > ROTATE_BYTES) {
        let number = fs::read_dir(dir).expect("a listing").count();
        fs::rename(&file, dir.join(format!("audit.log.{number}"))).expect("rotates");
    }
    let mut file = File::options().create(true).append(true).open(file).expect("a log");
    file.write_all(&[entry, b"\n"].concat()).expect("a line");
}

/// A bucket is followed into another one, key by key, whatever listings hide.
pub async fn into_a_bucket(server: &Audited) {
    let copy = server.bucket("nested-copy").await;
    let read = async || copy.objects(NESTED_KEYS).await;
    followed(server, "nested", NESTED_KEYS, "s3://nested-copy", read).await;
}

/// A bucket is followed into a tree.
pub async fn into_a_tree(server: &Audited) {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("copy");
    let file = |key: &&str| Some(((*key).to_owned(), fs::read(root.join(key)).ok()?));
    let read = async || TREE_KEYS.iter().filter_map(file).collect();
    followed(server, "flat", TREE_KEYS, &root.display().to_string(), read).await;
}

/// By key.
type Objects = BTreeMap<String, Vec<u8>>;

async fn followed(
    server: &Audited,
    bucket: &str,
    keys: &'static [&'static str],
    to: &str,
    read: impl AsyncFn() -> Objects,
) {
    let (source, temp, began) =
        (server.bucket(bucket).await, tempfile::tempdir().expect("a directory"), Instant::now());
    let at = |name: &str| temp.path().join(name).display().to_string();
    let pair = ["--src", &format!("s3://{bucket}"), "--dest", to, "--state-dir", &at("state")].map(str::to_owned);
    let pair = [&pair[..], &["--s3-endpoint".to_owned(), server.minio.endpoint.clone()]].concat();
    let logs = ["--audit-log-dir".to_owned(), server.logs.path().display().to_string()];
    let with = |words: &str, more: &[String]| {
        [&words.split(' ').map(str::to_owned).collect::<Vec<_>>(), &pair[..], more].concat()
    };
    let pass = with("run --once", &[&logs[..], &["--change-log-dir".to_owned(), at("changes")]].concat());
    server.logged(&[source.put("begin", b"1".to_vec()).await.expect("begins")]).await;

    server.ran(&with("migrate-import", &logs), &[0, 3]);
    let crew = Crew::start(&source, keys);
    let starts = server.kill_often(&pass).await;
    let asked = crew.stop().await;
    server.logged(&asked).await;
    let (held, passes) = server.until_equal(&pass, async || (source.objects(keys).await, read().await)).await;
    server.ran(&with("verify --content", &[]), &[0]);
    let listed = source.listed().await;
    let hidden = held.keys().filter(|key| !listed.contains(*key)).count();
    println!(
        "  s3://{bucket} to {to}: {} s, {} requests while {KILLS} of {starts} passes were killed, {passes} more; {} objects \
         compared, {hidden} of them in no listing",
        began.elapsed().as_secs(),
        asked.len(),
        held.len()
    );
}

impl Audited {
    fn ran(&self, args: &[String], codes: &[i32]) -> String {
        let output = self.syncd(args).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code().is_some_and(|code| codes.contains(&code)), "{args:?}: {}\n{said}", output.status);
        said
    }

    /// Waits until the log has every one of these requests.
    async fn logged(&self, requests: &[String]) {
        let mut clock = every(TRY_EVERY / 10);
        for _ in 0..TRIES * 10 {
            let log = self.log();
            if requests.iter().all(|request| log.contains(request.as_str())) {
                return;
            }
            clock.tick().await;
        }
        let log = self.log();
        let missing = requests.iter().filter(|request| !log.contains(request.as_str())).count();
        panic!("{missing} of {} requests were not logged in time", requests.len());
    }

    /// Starts passes and kills them, until that happened often enough; returns how many were started.
    async fn kill_often(&self, pass: &[String]) -> usize {
        let (mut killed, mut dice) = (0, Dice::of(7));
        for start in 1..=STARTS_MAX {
            killed +=
                usize::from(self.kill_within(pass, Duration::from_millis(dice.below(KILLED_WITHIN_MS) as u64)).await);
            if killed == KILLS {
                return start;
            }
        }
        panic!("only {killed} of {STARTS_MAX} passes were killed before they came to their end");
    }

    async fn kill_within(&self, pass: &[String], within: Duration) -> bool {
        let said = tempfile::NamedTempFile::new().expect("a file");
        let output = said.reopen().expect("a file");
        let mut process = self.syncd(pass).stdout(Stdio::null()).stderr(output).spawn().expect("it starts");
        let (began, mut clock) = (Instant::now(), every(Duration::from_millis(5)));
        while began.elapsed() < within {
            clock.tick().await;
            if let Some(status) = process.try_wait().expect("looks") {
                let said = fs::read_to_string(said.path()).unwrap_or_default();
                assert!(matches!(status.code(), Some(0 | 3)), "{pass:?}: {status}\n{said}");
                return false;
            }
        }
        process.kill().expect("kills");
        process.wait().expect("waits").code().is_none()
    }

    /// Passes until both sides hold the same; then what they hold, and how many passes that took.
    async fn until_equal(&self, pass: &[String], look: impl AsyncFn() -> (Objects, Objects)) -> (Objects, usize) {
        let (mut clock, mut last) = (every(TRY_EVERY), String::new());
        for passes in 1..=TRIES {
            clock.tick().await;
            let said = self.ran(pass, &[0, 3]);
            let (held, there) = look().await;
            if held == there {
                return (held, passes);
            }
            last = format!("{}\n{said}", unequal(&held, &there));
        }
        panic!("not equal: {last}")
    }
}

/// The keys at which the two differ, with how many bytes each side has there.
fn unequal(held: &Objects, there: &Objects) -> String {
    let all: BTreeSet<&String> = held.keys().chain(there.keys()).collect();
    let differ = all.into_iter().filter(|key| held.get(*key) != there.get(*key));
    let len = |objects: &Objects, key| objects.get(key).map(Vec::len);
    let lines: Vec<_> = differ.map(|key| format!("{key}: {:?}, {:?}", len(held, key), len(there, key))).collect();
    lines.join("; ")
}

/// Clients that write until they are stopped.
struct Crew {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Crew {
    fn start(bucket: &Bucket, keys: &'static [&'static str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |seed| {
            let (bucket, stop) = (bucket.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut dice, mut asked) = (Dice::of(seed), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    // A key may have gone before it is copied.
                    asked.extend(bucket.act(keys, &mut dice).await);
                }
                asked
            })
        };
        Self { clients: (1..=CLIENTS).map(client).collect(), stop }
    }

    /// The requests that changed something.
    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut asked = Vec::new();
        for client in self.clients {
            asked.extend(client.await.expect("a client"));
        }
        asked
    }
}

#[derive(Clone)]
struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    /// One random change; its request, unless it was refused.
    async fn act(&self, keys: &[&str], dice: &mut Dice) -> Option<String> {
        let one = dice.pick(keys);
        match dice.below(10) {
            0..4 => self.put(one, bytes(dice)).await,
            4 | 5 => self.copy(one, dice.pick(keys)).await,
            6 => self.in_parts(one, bytes(dice)).await,
            7 => self.delete_some(&[one, dice.pick(keys), dice.pick(keys)]).await,
            _ => self.delete(one).await,
        }
    }

    async fn put(&self, key: &str, bytes: Vec<u8>) -> Option<String> {
        let put = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes)).send().await;
        put.ok()?.request_id().map(str::to_owned)
    }

    async fn copy(&self, from: &str, to: &str) -> Option<String> {
        let source = format!(
            "{}/{}",
            self.name,
            percent_encoding::utf8_percent_encode(from, percent_encoding::NON_ALPHANUMERIC)
        );
        let copy = self.client.copy_object().bucket(&self.name).key(to).copy_source(source).send().await;
        copy.ok()?.request_id().map(str::to_owned)
    }

    async fn in_parts(&self, key: &str, bytes: Vec<u8>) -> Option<String> {
        let upload = self.client.create_multipart_upload().bucket(&self.name).key(key).send().await.ok()?;
        let id = upload.upload_id()?;
        let part = self.client.upload_part().bucket(&self.name).key(key).upload_id(id).part_number(1);
        let part = part.body(ByteStream::from(bytes)).send().await.ok()?;
        let part = CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
        let parts = CompletedMultipartUpload::builder().parts(part).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.name).key(key).upload_id(id);
        complete.multipart_upload(parts).send().await.ok()?.request_id().map(str::to_owned)
    }

    async fn delete_some(&self, keys: &[&str]) -> Option<String> {
        let object = |key: &&str| ObjectIdentifier::builder().key(*key).build().ok();
        let objects = Delete::builder().set_objects(keys.iter().map(object).collect()).build().ok()?;
        let deleted = self.client.delete_objects().bucket(&self.name).delete(objects).send().await;
        deleted.ok()?.request_id().map(str::to_owned)
    }

    async fn delete(&self, key: &str) -> Option<String> {
        let deleted = self.client.delete_object().bucket(&self.name).key(key).send().await;
        deleted.ok()?.request_id().map(str::to_owned)
    }

    /// What stands at each key, asked for by its name.
    async fn objects(&self, keys: &[&str]) -> Objects {
        let mut objects = Objects::new();
        for key in keys {
            match self.client.get_object().bucket(&self.name).key(*key).send().await {
                Ok(got) => drop(objects.insert((*key).to_owned(), got.body.collect().await.expect(key).to_vec())),
                Err(error) => {
                    assert!(error.as_service_error().is_some_and(|error| error.is_no_such_key()), "{key}: {error:?}")
                }
            }
        }
        objects
    }

    async fn listed(&self) -> BTreeSet<String> {
        let listed = self.client.list_objects_v2().bucket(&self.name).send().await.expect("a listing");
        listed.contents.unwrap_or_default().into_iter().filter_map(|object| object.key).collect()
    }
}

/// Sizes often collide.
fn bytes(dice: &mut Dice) -> Vec<u8> {
    let (size, first) = (dice.pick(&[0, 100, 100, 5000]), dice.below(251));
    (0..size).map(|at| ((at + first) % 251) as u8).collect()
}
