//! Where a store is: what was typed, and how it is opened.

use crate::store::hdfs::{Hdfs, HdfsOptions};
use crate::store::local::Local;
use crate::store::s3::{S3, S3Options};
use crate::store::{Store, StoreError};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use syncd_parsers::RelPath;

/// A plain path or `file://`, `s3://bucket/prefix`, `hdfs://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uri {
    Local(PathBuf),
    S3 {
        bucket: String,
        /// Without slashes at its ends; may be empty.
        prefix: String,
    },
    Hdfs {
        authority: String,
        /// Begins with a slash, and does not end with one unless it is the root.
        path: String,
    },
}

/// Why a text is not a [`Uri`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("nothing was given")]
    Empty,
    #[error("{0}:// is not a store that syncd knows; it knows plain paths, file://, s3:// and hdfs://")]
    Scheme(String),
    #[error("s3:// needs a bucket: s3://bucket/prefix")]
    Bucket,
    #[error("hdfs:// needs a NameNode or a name service: hdfs://host:8020/path")]
    Authority,
}

/// What stores have to be told besides where they are.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    pub s3_endpoint: Option<String>,
    pub s3_region: Option<String>,
    pub hdfs_http: Option<String>,
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() { Err(UriError::Empty) } else { Ok(Self::Local(text.into())) };
        };
        let (first, path) = rest.split_once('/').unwrap_or((rest, ""));
        match scheme {
            "file" => Ok(Self::Local(rest.into())),
            "s3" if first.is_empty() => Err(UriError::Bucket),
            "s3" => Ok(Self::S3 { bucket: first.into(), prefix: path.trim_matches('/').into() }),
            "hdfs" if first.is_empty() => Err(UriError::Authority),
            "hdfs" => Ok(Self::Hdfs { authority: first.into(), path: format!("/{}", path.trim_matches('/')) }),
            other => Err(UriError::Scheme(other.into())),
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Hdfs { authority, path } => write!(f, "hdfs://{authority}{path}"),
        }
    }
}

impl Uri {
    /// Makes a local path absolute, so that a state directory knows its stores from anywhere.
    ///
    /// # Errors
    ///
    /// The current directory is not known.
    pub fn absolute(self) -> std::io::Result<Self> {
        match self {
            Self::Local(path) => std::path::absolute(path).map(Self::Local),
            other => Ok(other),
        }
    }

    /// The path in the audit log that corresponds to this root, where the URI says so.
    #[must_use]
    pub fn audit_root(&self) -> Option<String> {
        match self {
            Self::Hdfs { path, .. } => Some(path.clone()),
            Self::S3 { bucket, prefix } => Some(format!("/{bucket}/{prefix}").trim_end_matches('/').to_owned()),
            Self::Local(_) => None,
        }
    }

    /// Where this lies below another, if it does and is not the same.
    #[must_use]
    pub fn below(&self, other: &Self) -> Option<RelPath> {
        let rest = match (self, other) {
            (Self::Local(one), Self::Local(other)) => one.strip_prefix(other).ok()?,
            (Self::S3 { bucket: a, prefix: one }, Self::S3 { bucket: b, prefix: other }) if a == b => {
                Path::new(one).strip_prefix(other).ok()?
            }
            (Self::Hdfs { authority: a, path: one }, Self::Hdfs { authority: b, path: other }) if a == b => {
                Path::new(one).strip_prefix(other).ok()?
            }
            _ => return None,
        };
        RelPath::new(rest.as_os_str().as_bytes()).ok().filter(|path| !path.is_root())
    }

    /// Opens the store. That its root exists is for [`Store::identity`] to say.
    ///
    /// # Errors
    ///
    /// Its address or its settings are not usable.
    pub async fn open(&self, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Self::Local(path) => Ok(Arc::new(Local::open(path)?)),
            Self::S3 { bucket, prefix } => {
                let options = S3Options {
                    endpoint: options.s3_endpoint.clone(),
                    region: options.s3_region.clone(),
                    ..S3Options::default()
                };
                Ok(Arc::new(S3::connect(bucket, prefix, &options).await?))
            }
            Self::Hdfs { .. } => {
                let options = HdfsOptions { http_address: options.hdfs_http.clone(), ..HdfsOptions::default() };
                Ok(Arc::new(Hdfs::connect(&self.to_string(), &options)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_another_is_told_by_its_path() {
        let below = |one: &str, other: &str| {
            let uri = |text: &str| text.parse::<Uri>().expect("a URI");
            uri(one).below(&uri(other)).map(|path| path.to_string())
        };
        assert_eq!(below("s3://b/logs/x", "s3://b"), Some("logs/x".into()));
        assert_eq!(below("/a/logs", "/a"), Some("logs".into()));
        assert_eq!(below("hdfs://nn/a/logs", "hdfs://nn/a"), Some("logs".into()));
        for (one, other) in [("s3://c/logs", "s3://b"), ("s3://b/logs2", "s3://b/logs"), ("/a", "/a"), ("/a", "s3://a")]
        {
            assert_eq!(below(one, other), None, "{one} {other}");
        }
    }

    #[test]
    fn what_is_typed_comes_back_in_its_plainest_form() {
        for (typed, shown) in [
            ("/data", "/data"),
            ("data/x", "data/x"),
            ("file:///data", "/data"),
            ("s3://b", "s3://b"),
            ("s3://b/", "s3://b"),
            ("s3://b/a/b/", "s3://b/a/b"),
            ("hdfs://nn:8020", "hdfs://nn:8020/"),
            ("hdfs://nn:8020/data/", "hdfs://nn:8020/data"),
        ] {
            assert_eq!(typed.parse::<Uri>().map(|uri| uri.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_a_store_says_why() {
        for (typed, error) in [
            ("", UriError::Empty),
            ("s3:///x", UriError::Bucket),
            ("hdfs:///x", UriError::Authority),
            ("ftp://x/y", UriError::Scheme("ftp".into())),
        ] {
            assert_eq!(typed.parse::<Uri>(), Err(error));
        }
    }

    #[test]
    fn hdfs_and_buckets_say_where_their_root_is_in_the_log() {
        let root = |text: &str| text.parse::<Uri>().expect("a URI").audit_root();
        assert_eq!(root("hdfs://nn/data/x"), Some("/data/x".into()));
        assert_eq!(root("s3://bucket/data/x"), Some("/bucket/data/x".into()));
        assert_eq!(root("s3://bucket"), Some("/bucket".into()));
        assert_eq!(root("/data"), None);
    }
}
