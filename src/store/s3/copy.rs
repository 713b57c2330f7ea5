//! Copies on the server: renames, and new attributes for an object, which S3 can only be given with a new copy of it.

use super::super::{ErrorKind, Kind, Meta, StoreError};
use super::attrs::{self, Metadata};
use super::keys::copy_source;
use super::list::{Depth, Object};
use super::put::{Target, Upload, part_bytes};
use super::{S3, server_side};
use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{CompletedPart, MetadataDirective, StorageClass};
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
            .set_expires(expires($head))
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
        let (to, object) = (Target { op: "set_attrs", path: path.clone(), key }, shown(&head));
        if object.len > self.limits.copy_bytes {
            return self.copy_parts(&to.key, &to, &head, metadata).await;
        }
        let request = self.copy_request(&to.key, &to, object.tag.as_deref());
        let request = keeping!(request, &head, metadata).metadata_directive(MetadataDirective::Replace);
        send_copy(request, &to).await
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
        let to = Target { op: "rename", path: from.clone(), key: to_key };
        let head = self.source_head(&from_key, &to).await?;
        self.copy_object(&from_key, &shown(&head), &to).await?;
        self.delete("rename", from, vec![from_key]).await
    }

    /// Page by page: the keys of one are copied, and then those very keys are deleted, so that nothing goes uncopied.
    async fn move_dir(&self, from: &RelPath, to: &RelPath) -> Result<(), StoreError> {
        let (old, new) = (self.dir_key("rename", from)?, self.dir_key("rename", to)?);
        let mut token = None;
        loop {
            let page = self.page(("rename", from), &old, Depth::All, token).await?;
            let objects = page.found.into_iter().filter_map(|found| found.object.map(|object| (found.key, object)));
            let objects = objects.map(|(key, object)| Ok((utf8_key("rename", from, key)?, object)));
            let objects: Vec<(String, Object)> = objects.collect::<Result<_, StoreError>>()?;
            self.copy_all(from, &objects, &old, &new).await?;
            self.delete("rename", from, objects.into_iter().map(|(key, _)| key).collect()).await?;
            token = page.next;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    async fn copy_all(
        &self,
        path: &RelPath,
        objects: &[(String, Object)],
        old: &str,
        new: &str,
    ) -> Result<(), StoreError> {
        let copies = objects.iter().cloned().map(|(from, object)| {
            let key = format!("{new}{}", from.strip_prefix(old).unwrap_or(&from));
            let (s3, to) = (self.clone(), Target { op: "rename", path: path.clone(), key });
            async move { s3.copy_object(&from, &object, &to).await }
        });
        stream::iter(copies.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// A copy of the version of `from` that was seen as `object`, with its metadata.
    async fn copy_object(&self, from: &str, object: &Object, to: &Target) -> Result<(), StoreError> {
        if object.len > self.limits.copy_bytes {
            let head = self.source_head(from, to).await?;
            let metadata = head.metadata.clone().unwrap_or_default();
            return self.copy_parts(from, to, &head, metadata).await;
        }
        let request = self.copy_request(from, to, object.tag.as_deref());
        let class = object.class.as_deref().map(StorageClass::from);
        send_copy(request.set_storage_class(class).metadata_directive(MetadataDirective::Copy), to).await
    }

    async fn source_head(&self, from: &str, to: &Target) -> Result<HeadObjectOutput, StoreError> {
        let gone = || StoreError::new(to.op, &to.path, ErrorKind::Changed).because(format!("`{from}` went away"));
        self.head(to.op, &to.path, from).await?.ok_or_else(gone)
    }

    fn copy_request(&self, from: &str, to: &Target, tag: Option<&str>) -> CopyObjectFluentBuilder {
        let request = self.client.copy_object().bucket(&self.bucket).key(&to.key);
        request.copy_source(copy_source(&self.bucket, from)).set_copy_source_if_match(tag.map(attrs::quoted_tag))
    }

    async fn copy_parts(
        &self,
        from: &str,
        to: &Target,
        head: &HeadObjectOutput,
        metadata: Metadata,
    ) -> Result<(), StoreError> {
        let Object { len, tag, .. } = shown(head);
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(&to.key);
        // Without a checksum algorithm: MinIO would then want the checksums of parts that it copied itself and does not tell.
        let upload = keeping!(request, head, metadata).send().await.map_err(|error| to.failed(error))?;
        let upload = Upload { s3: self.clone(), at: to.clone(), id: to.some(upload.upload_id())? };
        let size = part_bytes(self.limits.copy_part_bytes, len);
        let parts = (1_i32..).zip((0..len).step_by(usize::try_from(size).unwrap_or(usize::MAX)));
        let parts = parts.map(|(number, start)| {
            let (upload, source) = (upload.clone(), (from.to_owned(), tag.clone()));
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
        let request = request.set_copy_source_if_match(tag.as_deref().map(attrs::quoted_tag));
        let request = request.customize().config_override(server_side());
        let done = request.send().await.map_err(|error| self.at.failed(error))?;
        let result = done.copy_part_result();
        let part = CompletedPart::builder().part_number(number);
        Ok(part.e_tag(self.at.some(result.and_then(|result| result.e_tag()))?).build())
    }
}

async fn send_copy(request: CopyObjectFluentBuilder, to: &Target) -> Result<(), StoreError> {
    let done = request.customize().config_override(server_side()).send().await.map_err(|error| to.failed(error))?;
    to.some(done.copy_object_result().and_then(|result| result.e_tag())).map(drop)
}

/// What a listing would show of the same object.
fn shown(head: &HeadObjectOutput) -> Object {
    let len = head.content_length().and_then(|len| u64::try_from(len).ok()).unwrap_or(0);
    let class = head.storage_class().map(|class| class.as_str().to_owned());
    Object { len, tag: head.e_tag().map(attrs::bare_tag), class }
}

/// The key of an object in a listing, for requests that name it.
pub(super) fn utf8_key(op: &'static str, path: &RelPath, key: Vec<u8>) -> Result<String, StoreError> {
    let refuse = |_| StoreError::new(op, path, ErrorKind::Unsupported).because("a key below it is not UTF-8");
    String::from_utf8(key).map_err(refuse)
}
