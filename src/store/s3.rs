//! Objects in a bucket shown as a tree: the store for S3 and everything that speaks it. This module
//! alone names the SDK; it decides neither what to copy nor when to try again later.
//!
//! - The path `a/b` is the key `prefix/a/b`. A directory is a marker, the empty object `prefix/a/b/`
//!   that keeps its attributes, or any key below it, or both.
//! - Keys stand for themselves: the same name can be an object and a prefix. A listing that sees both
//!   calls the name odd. A look-up asks for the object first and stops if it is there, since a second
//!   request for each look-up would double the price; by itself it cannot see the prefix, and calls it a file.
//! - Some servers hide keys below a key that is an object (seen on MinIO). What a listing lacks is
//!   therefore never taken for gone; a look-up asks for the key itself.
//! - Attributes live in the user metadata that rclone uses (`attrs.rs`). Directory times are written
//!   and shown, but no writer of a key below a directory changes them, so `dir_times` is false.

mod attrs;
mod copy;
mod error;
mod keys;
mod list;
mod put;
mod read;
mod remove;

use self::error::failure;
use self::keys::{KeyError, Keys};
use super::{Body, Capabilities, ErrorKind, Kind, Listed, Meta, Owners, Read, Rename, Store, StoreError};
use async_trait::async_trait;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Credentials, Region};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::time::Duration;
use syncd_parsers::RelPath;

/// A bucket, or what is below a prefix of it.
#[derive(Clone)]
pub struct S3 {
    client: Client,
    bucket: String,
    keys: Keys,
    /// Where the bucket is: the endpoint, or `aws`.
    endpoint: String,
    limits: S3Limits,
    capabilities: Capabilities,
}

/// How to reach a bucket, beyond what the environment and the profile say.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// `https://host:port` of a service that is not AWS.
    pub endpoint: Option<String>,
    /// Without one: the environment, the profile, the instance; with an endpoint at last `us-east-1`.
    pub region: Option<String>,
    /// The bucket as the first part of the path, not of the host name. Without a choice: true if there is an endpoint, unless
    /// that is one of a service which wants the bucket in the host name.
    pub path_style: Option<bool>,
    /// The section of the AWS configuration to use instead of the default one.
    pub profile: Option<String>,
    /// Instead of those of the environment, the profile and the instance.
    pub credentials: Option<S3Credentials>,
    pub limits: S3Limits,
}

/// An access key and its secret, which is not shown.
#[derive(Debug, Clone)]
pub struct S3Credentials(Credentials);

impl S3Credentials {
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self(Credentials::new(access_key, secret_key, None, None, "syncd"))
    }
}

/// What one request may carry, in bytes. The defaults fit S3 and its kin.
#[derive(Debug, Clone, Copy)]
pub struct S3Limits {
    /// Files up to this size are put in one request, larger ones in parts of at least this size. 5 MiB or more.
    pub part_bytes: u64,
    /// Objects up to this size are copied in one request.
    pub copy_bytes: u64,
    /// The size of the parts in which larger ones are copied.
    pub copy_part_bytes: u64,
}

impl Default for S3Limits {
    fn default() -> Self {
        Self { part_bytes: 16 << 20, copy_bytes: 5 << 30, copy_part_bytes: 1 << 30 }
    }
}

/// Attempts of one request, the first included. Whoever wants more wraps the store.
const ATTEMPTS: u32 = 4;
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);
/// For requests that make the server copy or join what may be gigabytes.
const SERVER_SIDE: Duration = Duration::from_secs(900);
/// An upload that is slower than this is given up.
const SLOWEST_BYTES_PER_SEC: u64 = 64 << 10;

impl S3 {
    /// A store for `bucket`, below `prefix` (empty for all of it). Makes no request to the bucket:
    /// [`Store::identity`] shows whether it answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if `prefix` is not a path, [`ErrorKind::Other`] if no region is known.
    pub async fn connect(bucket: &str, prefix: &str, options: &S3Options) -> Result<Self, StoreError> {
        let keys = Keys::new(prefix).map_err(|cause| unsupported("connect", &RelPath::root(), cause))?;
        let sdk = sdk_config(options).await;
        if sdk.region().is_none() {
            let hint = "no region is known: set AWS_REGION, or one in the profile or the configuration";
            return Err(StoreError::new("connect", &RelPath::root(), ErrorKind::Other).because(hint));
        }
        let endpoint = endpoint(options, &sdk);
        let path_style = options.path_style.unwrap_or_else(|| endpoint.as_deref().is_some_and(takes_paths));
        let mut config = Builder::from(&sdk).force_path_style(path_style);
        config.set_endpoint_url(endpoint.clone());
        Ok(Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.to_owned(),
            keys,
            endpoint: endpoint.unwrap_or_else(|| "aws".to_owned()),
            limits: options.limits,
            capabilities: capabilities(),
        })
    }

    /// What HEAD says of `key`; `None` if it says 404. That alone does not prove that the bucket is there.
    async fn head(&self, op: &'static str, path: &RelPath, key: &str) -> Result<Option<HeadObjectOutput>, StoreError> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 404) => Ok(None),
            Err(error) => Err(failure(op, path, error)),
        }
    }

    /// The directory at `path`, by its marker or by any key below it. The listing also proves that
    /// the bucket is there, which a HEAD with 404 cannot tell.
    async fn lookup_dir(&self, op: &'static str, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        let Ok(prefix) = self.keys.dir(path) else { return Ok(None) };
        let Some(first) = self.first_below(op, path, &prefix).await? else {
            return Ok(path.is_root().then(Meta::dir));
        };
        if prefix.is_empty() || first != prefix.as_bytes() {
            return Ok(Some(Meta::dir()));
        }
        let marker = self.head(op, path, &prefix).await?;
        Ok(Some(marker.map_or_else(Meta::dir, |head| attrs::of_marker(&head))))
    }

    async fn look(&self, op: &'static str, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        if path.is_root() {
            return self.lookup_dir(op, path).await;
        }
        // A name that no key can spell is not there.
        let Ok(key) = self.keys.file(path) else { return Ok(None) };
        match self.head(op, path, &key).await? {
            Some(head) => Ok(Some(attrs::of_object(&head))),
            None => self.lookup_dir(op, path).await,
        }
    }

    fn file_key(&self, op: &'static str, path: &RelPath) -> Result<String, StoreError> {
        self.keys.file(path).map_err(|cause| unsupported(op, path, cause))
    }

    fn dir_key(&self, op: &'static str, path: &RelPath) -> Result<String, StoreError> {
        self.keys.dir(path).map_err(|cause| unsupported(op, path, cause))
    }
}

fn unsupported(op: &'static str, path: &RelPath, cause: KeyError) -> StoreError {
    StoreError::new(op, path, ErrorKind::Unsupported).because(cause)
}

fn capabilities() -> Capabilities {
    Capabilities {
        name: "s3",
        tree: false,
        rename: Rename::Copying,
        time_unit: Some(Duration::from_nanos(1)),
        dir_times: false,
        modes: true,
        owner_access: false,
        owners: Owners::Any,
        symlinks: false,
        listed_per_lookup: 500,
    }
}

async fn sdk_config(options: &S3Options) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(patience(ANSWER));
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(S3Credentials(credentials)) = &options.credentials {
        loader = loader.credentials_provider(credentials.clone());
    }
    if let Some(region) = region(options) {
        loader = loader.region(region);
    }
    loader.load().await
}

/// `None` leaves it to the SDK, which at last asks the instance it may run on. A service that is not
/// AWS is not looked for there, and mostly ignores the region.
fn region(options: &S3Options) -> Option<RegionProviderChain> {
    if let Some(region) = &options.region {
        return Some(RegionProviderChain::first_try(Region::new(region.clone())));
    }
    options.endpoint.as_ref()?;
    let named = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
    Some(named.or_else(ProfileFileRegionProvider::new()).or_else(Region::new("us-east-1")))
}

/// The endpoint that requests go to, in the order of the SDK; `None` is AWS.
fn endpoint(options: &S3Options, sdk: &SdkConfig) -> Option<String> {
    let endpoint = options.endpoint.clone();
    let endpoint = endpoint.or_else(|| std::env::var("AWS_ENDPOINT_URL_S3").ok());
    let endpoint = endpoint.or_else(|| sdk.endpoint_url().map(str::to_owned));
    endpoint.map(|url| url.trim_end_matches('/').to_owned()).filter(|url| !url.is_empty())
}

/// Services that take the bucket in the host name alone: OSS, COS (for buckets since 2024), and AWS by its own wish.
const BUCKET_IN_HOST: [&str; 3] = [".aliyuncs.com", ".myqcloud.com", ".amazonaws.com"];

/// Servers of one's own, which mostly have no names for their buckets, and services unknown here.
fn takes_paths(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, host)| host);
    let host = host.split(['/', ':']).next().unwrap_or_default();
    !BUCKET_IN_HOST.iter().any(|domain| host.ends_with(domain))
}

/// Time-outs for one request whose answer takes up to `answer`, in each of its attempts.
fn patience(answer: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).read_timeout(answer).operation_attempt_timeout(answer).build()
}

/// The settings of one request that carries `bytes`.
fn carrying(bytes: u64) -> Builder {
    Builder::new().timeout_config(patience(ANSWER + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SEC)))
}

/// The settings of one request that makes the server work.
fn server_side() -> Builder {
    Builder::new().timeout_config(patience(SERVER_SIDE))
}

#[async_trait]
impl Store for S3 {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// By a listing and not by `HeadBucket`: it tells a missing bucket from a missing right, and needs
    /// no right beyond those that the work needs.
    async fn identity(&self) -> Result<String, StoreError> {
        let root = RelPath::root();
        let listing = self.first_below("identity", &root, self.keys.prefix()).await;
        listing.map_err(error::missing_bucket_is_not_found)?;
        let endpoint = self.endpoint.split_once("://").map_or(&*self.endpoint, |(_, host)| host);
        Ok(format!("s3://{endpoint}/{}/{}", self.bucket, self.keys.prefix()).trim_end_matches('/').to_owned())
    }

    /// The bucket has to exist: its region, its policy and its price are not for syncd to choose.
    async fn create_root(&self) -> Result<(), StoreError> {
        match self.identity().await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == ErrorKind::NotFound => {
                let cause = format!("create the bucket `{}` first; syncd does not", self.bucket);
                Err(StoreError { op: "create_root", ..error }.because(cause))
            }
            Err(error) => Err(StoreError { op: "create_root", ..error }),
        }
    }

    async fn lookup(&self, path: &RelPath) -> Result<Option<Meta>, StoreError> {
        self.look("lookup", path).await
    }

    fn list<'a>(&'a self, dir: &RelPath) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.list_dir(dir)
    }

    async fn read(&self, path: &RelPath, seen: &Meta) -> Result<Read, StoreError> {
        self.get(path, seen).await
    }

    async fn read_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        self.get_range(path, offset, len).await
    }

    async fn is_open(&self, _path: &RelPath, _seen: &Meta) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Cancelling while a large file is sent in parts leaves those parts in the bucket, unseen but paid for. The bucket's own
    /// rule for unfinished uploads removes them: whose an upload is cannot be told, so none is aborted but the own one.
    async fn put(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError> {
        self.put_file(path, meta, body).await
    }

    async fn put_link(&self, path: &RelPath, _meta: &Meta) -> Result<(), StoreError> {
        Err(StoreError::new("put_link", path, ErrorKind::Unsupported).because("S3 has no symbolic links"))
    }

    async fn mkdir(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.put_marker("mkdir", path, attrs::written(&Meta { kind: Kind::Dir, ..meta.clone() })).await
    }

    /// A new copy of the object onto itself: S3 has no other way. Its ACL becomes the bucket's default.
    async fn set_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        self.rewrite_attrs(path, meta).await
    }

    async fn remove(&self, files: &[RelPath]) -> Result<(), StoreError> {
        self.remove_files(files).await
    }

    async fn remove_tree(&self, path: &RelPath) -> Result<(), StoreError> {
        self.remove_below(path).await
    }

    /// Object by object. Cut short, some are at `from` and some at `to`, and none at neither.
    async fn rename(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        self.move_objects(from, to).await
    }

    /// S3 answers when what was written is durable.
    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_want_the_bucket_in_the_host_name_get_it_there() {
        for (endpoint, paths) in [
            ("http://127.0.0.1:9000", true),
            ("https://minio.example.com", true),
            ("https://s3.oss-cn-hangzhou.aliyuncs.com", false),
            ("https://cos.ap-guangzhou.myqcloud.com:443/", false),
            ("s3.eu-west-1.amazonaws.com", false),
            ("https://aliyuncs.com.example.com", true),
        ] {
            assert_eq!(takes_paths(endpoint), paths, "{endpoint}");
        }
    }
}
