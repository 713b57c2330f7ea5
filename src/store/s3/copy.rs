//! Copies on the server: renames, and new attributes for an object, which S3 can only be given with a new copy of it.

use super::super::{ErrorKind, Kind, Meta, StoreError};
use super::attrs::{self, Metadata};
use super::keys::copy_source;
use super::list::{Depth, Found};
use super::put::{Target, Upload, part_bytes};
use super::{S3, server_side};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedPart, MetadataDirective};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::ops::Range;
use syncd_parsers::RelPath;

/// Copies that one rename asks for at a time.
const AT_ONCE: usize = 16;

/// What a copy has to be given again, since it does not take it from its source. The ACL is not among
/// it: the copy has the bucket's default.
macro_rules! keeping {
    ($request:expr, $head:expr, $metadata:expr) => {
        $request
            .set_metadata(Some($metadata))
            .set_content_type($head.content_type.clone())
            .set_content_encoding($head.content_encoding.clone())
            .set_content_language($head.content_language.clone())
            .set_content_disposition($head.content_disposition.clone())
            .set_cache_control($head.cache_control.clone())
            .set_expires(expires(&$head))
            .set_website_redirect_location($head.website_redirect_location.clone())
            .set_storage_class($head.storage_class.clone())
            .set_server_side_encryption($head.server_side_encryption.clone())
            .set_ssekms_key_id($head.ssekms_key_id.clone())
    };
}

fn expires(head: &HeadObjectOutput) -> Option<DateTime> {
    DateTime::from_str(head.expires_string()?, DateTimeFormat::HttpDate).ok()
}

impl S3 {
    pub(super) async fn rewrite_attrs(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        if path.is_root() {
            return self.rewrite_marker(path, meta).await;
        }
        let key = self.file_key("set_attrs", path)?;
        let Some(head) = self.head("set_attrs", path, &key).await? else {
            return self.rewrite_marker(path, meta).await;
        };
        let mut metadata = head.metadata.clone().unwrap_or_default();
        attrs::overlay(&mut metadata, Kind::File, meta);
        let target = Target { op: "set_attrs", path: path.clone(), key: key.clone() };
        self.copy(&key, &target, &head, metadata).await
    }

    async fn rewrite_marker(&self, path: &RelPath, meta: &Meta) -> Result<(), StoreError> {
        if self.lookup_dir("set_attrs", path).await?.is_none() {
            return Err(StoreError::new("set_attrs", path, ErrorKind::NotFound));
        }
        let key = self.dir_key("set_attrs", path)?;
        let old = if key.is_empty() { None } else { self.head("set_attrs", path, &key).await? };
        let mut metadata = old.and_then(|head| head.metadata).unwrap_or_default();
        attrs::overlay(&mut metadata, Kind::Dir, meta);
        self.put_marker("set_attrs", path, metadata).await
    }

    pub(super) async fn move_objects(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        let not = |path, kind| Err(StoreError::new("rename", path, kind));
        if from.is_root() || (to != from && to.is_within(from)) {
            return not(to, ErrorKind::Unsupported);
        }
        // A name that no key can spell is found missing below, or refused here.
        self.dir_key("rename", to)?;
        match (self.look("rename", from).await?, self.look("rename", to).await?) {
            (None, _) => not(from, ErrorKind::NotFound),
            (Some(_), Some(_)) => not(to, ErrorKind::AlreadyExists),
            (Some(meta), None) if meta.is_dir() => self.move_dir(from, to).await,
            (Some(_), None) => self.move_file(from, to).await,
        }
    }

    async fn move_file(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        let (from_key, to_key) = (self.file_key("rename", from)?, self.file_key("rename", to)?);
        self.copy_object(&from_key, &Target { op: "rename", path: from.clone(), key: to_key }).await?;
        self.delete("rename", from, vec![from_key]).await
    }

    /// Page by page: the keys of one are copied, and then those very keys are deleted, so that nothing goes uncopied.
    async fn move_dir(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        let (old, new) = (self.dir_key("rename", from)?, self.dir_key("rename", to)?);
        let mut token = None;
        loop {
            let page = self.page(("rename", from), &old, Depth::All, token).await?;
            let keys = page.found.into_iter().map(|found| utf8_key("rename", from, found));
            let keys: Vec<String> = keys.collect::<Result<_, _>>()?;
            self.copy_all(from, &keys, &old, &new).await?;
            self.delete("rename", from, keys).await?;
            token = page.next;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    async fn copy_all(&self, path: &RelPath, keys: &[String], old: &str, new: &str) -> Result<(), StoreError> {
        let renamed = |key: &String| format!("{new}{}", key.strip_prefix(old).unwrap_or(key));
        let pairs: Vec<_> = keys.iter().map(|key| (key.clone(), renamed(key))).collect();
        let copies = pairs.into_iter().map(|(from, to)| {
            let (s3, target) = (self.clone(), Target { op: "rename", path: path.clone(), key: to });
            async move { s3.copy_object(&from, &target).await }
        });
        stream::iter(copies).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn copy_object(&self, from: &str, to: &Target) -> Result<(), StoreError> {
        let Some(head) = self.head(to.op, &to.path, from).await? else {
            return Err(StoreError::new(to.op, &to.path, ErrorKind::Changed).because(format!("`{from}` went away")));
        };
        let metadata = head.metadata.clone().unwrap_or_default();
        self.copy(from, to, &head, metadata).await
    }

    /// A copy of the version that `head` shows, with `metadata`.
    async fn copy(
        &self,
        from: &str,
        to: &Target,
        head: &HeadObjectOutput,
        metadata: Metadata,
    ) -> Result<(), StoreError> {
        let len = head.content_length().and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
        if len > self.limits.copy_bytes {
            return self.copy_parts(from, to, head, metadata, len).await;
        }
        let request = self.client.copy_object().bucket(&self.bucket).key(&to.key);
        let request = request.copy_source(copy_source(&self.bucket, from)).set_copy_source_if_match(head.e_tag.clone());
        let request = keeping!(request, *head, metadata).metadata_directive(MetadataDirective::Replace);
        let done = request.customize().config_override(server_side()).send().await.map_err(|error| to.failed(error))?;
        to.some(done.copy_object_result().and_then(|result| result.e_tag())).map(drop)
    }

    async fn copy_parts(
        &self,
        from: &str,
        to: &Target,
        head: &HeadObjectOutput,
        metadata: Metadata,
        len: u64,
    ) -> Result<(), StoreError> {
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(&to.key);
        let request = keeping!(request, *head, metadata).checksum_algorithm(ChecksumAlgorithm::Crc32);
        let upload = request.send().await.map_err(|error| to.failed(error))?;
        let upload = Upload { s3: self.clone(), at: to.clone(), id: to.some(upload.upload_id())? };
        let size = part_bytes(self.limits.copy_part_bytes, len);
        let parts = (1_i32..).zip((0..len).step_by(usize::try_from(size).unwrap_or(usize::MAX)));
        let parts = parts.map(|(number, start)| {
            let (upload, source) = (upload.clone(), (from.to_owned(), head.e_tag.clone()));
            async move { upload.copy_part(source, number, start..len.min(start + size)).await }
        });
        let parts = stream::iter(parts).buffer_unordered(AT_ONCE).try_collect().await;
        upload.finish(parts).await
    }
}

impl Upload {
    async fn copy_part(
        &self,
        (from, tag): (String, Option<String>),
        number: i32,
        range: Range<u64>,
    ) -> Result<CompletedPart, StoreError> {
        let request = self.s3.client.upload_part_copy().bucket(&self.s3.bucket).key(&self.at.key).upload_id(&self.id);
        let request = request.part_number(number).copy_source(copy_source(&self.s3.bucket, &from));
        let request = request.copy_source_range(format!("bytes={}-{}", range.start, range.end - 1));
        let request = request.set_copy_source_if_match(tag).customize().config_override(server_side());
        let done = request.send().await.map_err(|error| self.at.failed(error))?;
        let result = done.copy_part_result();
        let part = CompletedPart::builder().part_number(number);
        let part = part.e_tag(self.at.some(result.and_then(|result| result.e_tag()))?);
        Ok(part.set_checksum_crc32(result.and_then(|result| result.checksum_crc32.clone())).build())
    }
}

/// The key of an object in a listing, for requests that name it.
pub(super) fn utf8_key(op: &'static str, path: &RelPath, found: Found) -> Result<String, StoreError> {
    let refuse = |_| StoreError::new(op, path, ErrorKind::Unsupported).because("a key below it is not UTF-8");
    String::from_utf8(found.key).map_err(refuse)
}
