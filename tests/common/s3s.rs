//! An S3 server in the test's own process: flat keys in a map, behind the protocol, signatures and XML of `s3s`.
//! (`s3s-fs` keeps objects as files and directories, and so has neither markers nor a key that is also a prefix.)
//! It can be told to fail, and to hide keys as MinIO does; it counts what it was asked.

use bytes::Bytes;
use futures::TryStreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Md5};
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;
use syncd::store::s3::{S3 as Store, S3Credentials, S3Limits, S3Options};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const ACCESS_KEY: &str = "access";
const SECRET_KEY: &str = "secret";
pub const BUCKET: &str = "bucket";

/// A server that ends when this is dropped.
pub struct Server {
    pub endpoint: String,
    pub bucket: String,
    state: Shared,
    task: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bucket_is_gone: bool,
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
    hides_below_objects: bool,
    undeletable: BTreeSet<String>,
    faults: Vec<(&'static str, S3ErrorCode, usize)>,
    requests: Vec<&'static str>,
    next_id: u64,
}

#[derive(Clone)]
pub struct Object {
    pub bytes: Bytes,
    pub metadata: HashMap<String, String>,
    pub content_type: Option<String>,
    tag: String,
    crc32: Option<String>,
    modified: SystemTime,
}

struct Upload {
    object: Object,
    parts: BTreeMap<i32, Bytes>,
}

/// A server with one empty bucket on a free port of the loopback.
pub async fn start() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    let state = Shared::default();
    let task = tokio::spawn(serve(listener, state.clone()));
    Server { endpoint: format!("http://{address}"), bucket: BUCKET.to_owned(), state, task }
}

async fn serve(listener: TcpListener, state: Shared) {
    let mut service = S3ServiceBuilder::new(state);
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    while let Ok((socket, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            // A client that hangs up is its own business.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub fn options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.endpoint.clone()),
            region: Some("us-east-1".to_owned()),
            credentials: Some(S3Credentials::new(ACCESS_KEY, SECRET_KEY)),
            ..S3Options::default()
        }
    }

    /// The store of what is below `prefix`.
    pub async fn store(&self, prefix: &str) -> Store {
        Store::connect(&self.bucket, prefix, &self.options()).await.expect("a good prefix")
    }

    pub async fn store_with(&self, prefix: &str, limits: S3Limits) -> Store {
        let options = S3Options { limits, ..self.options() };
        Store::connect(&self.bucket, prefix, &options).await.expect("a good prefix")
    }

    /// Puts objects behind the store's back, whatever their keys are.
    pub fn write(&self, keys: &[&str]) {
        for key in keys {
            self.state.lock().objects.insert((*key).to_owned(), object(Bytes::copy_from_slice(key.as_bytes())));
        }
    }

    /// Puts an object as another tool may have done.
    pub fn write_with(&self, key: &str, content_type: &str, metadata: &[(&str, &str)]) {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let content_type = Some(content_type.to_owned());
        let object = Object { content_type, metadata, ..object(Bytes::copy_from_slice(key.as_bytes())) };
        self.state.lock().objects.insert(key.to_owned(), object);
    }

    pub fn object(&self, key: &str) -> Option<Object> {
        self.state.lock().objects.get(key).cloned()
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().objects.keys().cloned().collect()
    }

    /// Uploads in parts that were begun and neither finished nor given up.
    pub fn open_uploads(&self) -> usize {
        self.state.lock().uploads.len()
    }

    pub fn hide_below_objects(&self) {
        self.state.lock().hides_below_objects = true;
    }

    pub fn refuse_to_delete(&self, key: &str) {
        self.state.lock().undeletable.insert(key.to_owned());
    }

    pub fn drop_bucket(&self) {
        self.state.lock().bucket_is_gone = true;
    }

    /// The next `times` requests of this kind are answered with this error.
    pub fn fail(&self, request: &'static str, code: S3ErrorCode, times: usize) {
        self.state.lock().faults.push((request, code, times));
    }

    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// What was asked since the last call, in order.
    pub fn requests(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state.lock().requests)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the lock")
    }

    /// Counts the request, and fails it if a test wants it so.
    fn begin(&self, request: &'static str) -> S3Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.requests.push(request);
        if let Some(fault) = state.faults.iter_mut().find(|(name, _, left)| *name == request && *left > 0) {
            fault.2 -= 1;
            return Err(S3Error::new(fault.1.clone()));
        }
        if state.bucket_is_gone { Err(s3_error!(NoSuchBucket)) } else { Ok(state) }
    }
}

impl State {
    fn get(&self, key: &str) -> S3Result<Object> {
        self.objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }

    fn put(&mut self, key: String, object: Object) -> S3Result<()> {
        if key.len() > 1024 {
            return Err(s3_error!(KeyTooLongError));
        }
        self.objects.insert(key, object);
        Ok(())
    }

    fn is_hidden(&self, key: &str) -> bool {
        let above = key.match_indices('/').map(|(at, _)| &key[..at]);
        self.hides_below_objects && above.into_iter().any(|above| self.objects.contains_key(above))
    }

    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("upload-{}", self.next_id)
    }

    /// Keys, and the prefixes that they have in common, after `token`.
    fn listed(&self, prefix: &str, delimiter: Option<&str>, token: Option<&str>) -> Vec<Result<&str, &str>> {
        let from = token.unwrap_or(prefix).max(prefix);
        let mut listed: Vec<Result<&str, &str>> = Vec::new();
        for (key, _) in self.objects.range::<str, _>((Bound::Included(from), Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let common =
                delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| prefix.len() + at + delimiter.len()));
            let shown = common.map_or(Ok(key.as_str()), |end| Err(&key[..end]));
            let name = shown.unwrap_or_else(|common| common);
            if !self.is_hidden(key) && token.is_none_or(|token| name > token) && listed.last() != Some(&shown) {
                listed.push(shown);
            }
        }
        listed
    }
}

fn object(bytes: Bytes) -> Object {
    let (tag, crc32) = (hex(md5(&bytes).as_ref()), Some(crc32(&bytes)));
    #[expect(clippy::disallowed_methods, reason = "a server has a clock")]
    let modified = SystemTime::now();
    Object { bytes, metadata: HashMap::new(), content_type: None, tag, crc32, modified }
}

fn md5(bytes: &[u8]) -> impl AsRef<[u8]> + use<> {
    let mut hash = Md5::new();
    hash.update(bytes);
    hash.finalize()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn crc32(bytes: &[u8]) -> String {
    let mut hasher = ChecksumHasher { crc32: Some(Crc32::new()), ..ChecksumHasher::default() };
    hasher.update(bytes);
    hasher.finalize().checksum_crc32.expect("it was asked for")
}

/// Every write has to bring its checksum.
async fn body(body: Option<StreamingBlob>, crc: Option<String>) -> S3Result<Bytes> {
    let pieces: Vec<Bytes> = match body {
        Some(body) => body.try_collect().await.map_err(|_| s3_error!(IncompleteBody))?,
        None => Vec::new(),
    };
    let bytes = Bytes::from(pieces.concat());
    if crc == Some(crc32(&bytes)) { Ok(bytes) } else { Err(s3_error!(BadDigest, "{crc:?}")) }
}

fn matches(condition: Option<&ETagCondition>, tag: &str) -> S3Result<()> {
    match condition {
        Some(ETagCondition::ETag(wanted)) if wanted.value() != tag => Err(s3_error!(PreconditionFailed)),
        _ => Ok(()),
    }
}

fn strong(tag: &str) -> Option<ETag> {
    Some(ETag::Strong(tag.to_owned()))
}

/// Like a form: letters, digits and `-._~/*` stay, a space is a plus.
fn encoded(key: &str) -> String {
    let encode = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"-._~/*".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    key.bytes().map(encode).collect()
}

type Answer<T> = S3Result<S3Response<T>>;

fn answer<T>(output: T) -> Answer<T> {
    Ok(S3Response::new(output))
}

fn source(copy: &CopySource) -> S3Result<&str> {
    match copy {
        CopySource::Bucket { key, .. } => Ok(key),
        _ => Err(s3_error!(NotImplemented)),
    }
}

#[async_trait::async_trait]
impl S3 for Shared {
    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let object = self.begin("head")?.get(&req.input.key)?;
        answer(HeadObjectOutput {
            content_length: Some(object.bytes.len() as i64),
            content_type: object.content_type.clone(),
            e_tag: strong(&object.tag),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.metadata),
            ..Default::default()
        })
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let object = self.begin("get")?.get(&req.input.key)?;
        matches(req.input.if_match.as_ref(), &object.tag)?;
        let all = object.bytes.len() as u64;
        let range = req.input.range.map(|range| range.check(all)).transpose().map_err(|_| s3_error!(InvalidRange))?;
        let bytes = match &range {
            Some(range) => object.bytes.slice(range.start as usize..range.end as usize),
            None => object.bytes.clone(),
        };
        answer(GetObjectOutput {
            content_length: Some(bytes.len() as i64),
            content_range: range.as_ref().map(|range| format!("bytes {}-{}/{all}", range.start, range.end - 1)),
            checksum_crc32: object.crc32.filter(|_| range.is_none() && req.input.checksum_mode.is_some()),
            body: Some(StreamingBlob::wrap(futures::stream::iter([Ok::<_, std::io::Error>(bytes)]))),
            e_tag: strong(&object.tag),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.metadata),
            ..Default::default()
        })
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        self.begin("put").map(drop)?;
        let bytes = body(req.input.body, req.input.checksum_crc32).await?;
        let object = Object {
            metadata: req.input.metadata.unwrap_or_default(),
            content_type: req.input.content_type,
            ..object(bytes)
        };
        let tag = strong(&object.tag);
        self.lock().put(req.input.key, object)?;
        answer(PutObjectOutput { e_tag: tag, ..Default::default() })
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let mut state = self.begin("copy")?;
        let mut object = state.get(source(&req.input.copy_source)?)?;
        matches(req.input.copy_source_if_match.as_ref(), &object.tag)?;
        if req.input.metadata_directive.is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE) {
            object.metadata = req.input.metadata.unwrap_or_default();
            object.content_type = req.input.content_type;
        }
        let result = CopyObjectResult { e_tag: strong(&object.tag), ..Default::default() };
        state.put(req.input.key, object)?;
        answer(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() })
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let mut state = self.begin("delete")?;
        if state.undeletable.contains(&req.input.key) {
            return Err(s3_error!(AccessDenied));
        }
        state.objects.remove(&req.input.key);
        answer(DeleteObjectOutput::default())
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        let mut state = self.begin("delete many")?;
        let mut errors = Vec::new();
        for ObjectIdentifier { key, .. } in req.input.delete.objects {
            if state.undeletable.contains(&key) {
                errors.push(Error { code: Some("AccessDenied".to_owned()), key: Some(key), ..Default::default() });
            } else {
                state.objects.remove(&key);
            }
        }
        answer(DeleteObjectsOutput { errors: Some(errors), ..Default::default() })
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        let (state, input) = (self.begin("list")?, req.input);
        let prefix = input.prefix.unwrap_or_default();
        let limit = input.max_keys.map_or(1000, |keys| keys.clamp(0, 1000) as usize);
        let listed = state.listed(&prefix, input.delimiter.as_deref(), input.continuation_token.as_deref());
        let more = listed.len() > limit;
        let page = &listed[..limit.min(listed.len())];
        let last = page.last().map(|shown| shown.unwrap_or_else(|common| common).to_owned());
        let spelled = |key: &str| if input.encoding_type.is_some() { encoded(key) } else { key.to_owned() };
        let contents = page.iter().filter_map(|shown| shown.ok()).map(|key| s3s::dto::Object {
            key: Some(spelled(key)),
            size: Some(state.objects[key].bytes.len() as i64),
            e_tag: strong(&state.objects[key].tag),
            ..Default::default()
        });
        let prefixes = page.iter().filter_map(|shown| shown.err());
        let prefixes = prefixes.map(|common| CommonPrefix { prefix: Some(spelled(common)) });
        answer(ListObjectsV2Output {
            contents: Some(contents.collect()),
            common_prefixes: Some(prefixes.collect()),
            is_truncated: Some(more),
            next_continuation_token: last.filter(|_| more),
            encoding_type: input.encoding_type.clone(),
            ..Default::default()
        })
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let mut state = self.begin("begin parts")?;
        let metadata = req.input.metadata.unwrap_or_default();
        let object = Object { metadata, content_type: req.input.content_type, ..object(Bytes::new()) };
        let id = state.id();
        state.uploads.insert(id.clone(), Upload { object, parts: BTreeMap::new() });
        answer(CreateMultipartUploadOutput { upload_id: Some(id), ..Default::default() })
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.begin("part").map(drop)?;
        let bytes = body(req.input.body, req.input.checksum_crc32).await?;
        let (tag, crc) = (hex(md5(&bytes).as_ref()), crc32(&bytes));
        let mut state = self.lock();
        let upload = state.uploads.get_mut(&req.input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(req.input.part_number, bytes);
        answer(UploadPartOutput { e_tag: strong(&tag), checksum_crc32: Some(crc), ..Default::default() })
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        let mut state = self.begin("copy part")?;
        let object = state.get(source(&req.input.copy_source)?)?;
        matches(req.input.copy_source_if_match.as_ref(), &object.tag)?;
        let range = Range::parse(req.input.copy_source_range.as_deref().unwrap_or("bytes=0-"));
        let range = range.map_err(|_| s3_error!(InvalidArgument))?.check(object.bytes.len() as u64);
        let range = range.map_err(|_| s3_error!(InvalidRange))?;
        let bytes = object.bytes.slice(range.start as usize..range.end as usize);
        let tag = strong(&hex(md5(&bytes).as_ref()));
        let upload = state.uploads.get_mut(&req.input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(req.input.part_number, bytes);
        let result = CopyPartResult { e_tag: tag, ..Default::default() };
        answer(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() })
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let mut state = self.begin("join parts")?;
        let upload = state.uploads.remove(&req.input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let named = req.input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let named: Vec<i32> = named.iter().filter_map(|part| part.part_number).collect();
        if !named.iter().eq(upload.parts.keys()) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let last = upload.parts.len().saturating_sub(1);
        if upload.parts.values().take(last).any(|part| part.len() < 5 << 20) {
            return Err(s3_error!(EntityTooSmall));
        }
        let bytes = Bytes::from(upload.parts.into_values().collect::<Vec<_>>().concat());
        let joined = object(bytes);
        let tag = format!("{}-{}", joined.tag, last + 1);
        let object = Object { bytes: joined.bytes, tag: tag.clone(), crc32: None, ..upload.object };
        state.put(req.input.key, object)?;
        answer(CompleteMultipartUploadOutput { e_tag: strong(&tag), ..Default::default() })
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.begin("give up parts")?.uploads.remove(&req.input.upload_id);
        answer(AbortMultipartUploadOutput::default())
    }
}
