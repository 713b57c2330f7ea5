//! Reading objects: one version from beginning to end, by its ETag; the SDK checks the checksum that
//! the object was stored with, if it was.

use super::super::{Body, Chunk, ErrorKind, Meta, Read, StoreError};
use super::error::failure;
use super::{Builder, S3, attrs};
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use syncd_parsers::RelPath;

/// Files up to this size are handed over whole.
const WHOLE: u64 = 1 << 20;

impl S3 {
    pub(super) async fn get(&self, path: &RelPath, seen: &Meta) -> Result<Read, StoreError> {
        let key = self.file_key("read", path)?;
        let request = self.client.get_object().bucket(&self.bucket).key(key);
        let request = request.set_if_match(seen.tag.as_deref().map(attrs::quoted_tag));
        let got = request.send().await.map_err(|error| failure("read", path, error))?;
        let meta = attrs::of_body(&got);
        if got.content_length().is_none() {
            return Err(StoreError::new("read", path, ErrorKind::Other).because("the answer does not say its length"));
        }
        // Not all servers look at the condition.
        if seen.tag.is_some() && meta.tag != seen.tag {
            return Err(StoreError::new("read", path, ErrorKind::Changed));
        }
        let body = Incoming { body: got.body, left: meta.len, path: path.clone() };
        Ok(Read { body: body.into_body(meta.len).await?, meta })
    }

    pub(super) async fn get_range(
        &self,
        path: &RelPath,
        offset: u64,
        len: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let key = self.file_key("read_range", path)?;
        let Some(past) = len.checked_sub(1) else { return Ok(stream::empty().boxed()) };
        let range = format!("bytes={offset}-{}", offset.saturating_add(past));
        let request = self.client.get_object().bucket(&self.bucket).key(key).range(range);
        match request.customize().config_override(unchecked()).send().await {
            Ok(got) => part(path, got, offset, len),
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 416) => {
                Ok(stream::empty().boxed())
            }
            Err(error) => Err(failure("read_range", path, error)),
        }
    }
}

/// The checksum is that of the whole object; a part cannot have it.
fn unchecked() -> Builder {
    Builder::new().response_checksum_validation(ResponseChecksumValidation::WhenRequired)
}

/// The bytes of an answer to a request for a range, which the server must have understood.
fn part(
    path: &RelPath,
    got: GetObjectOutput,
    offset: u64,
    len: u64,
) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
    let expected = format!("bytes {offset}-");
    let answered = got.content_range().is_some_and(|range| range.starts_with(&expected));
    let left = got.content_length().and_then(|len| u64::try_from(len).ok());
    match left {
        Some(left) if answered && left <= len => {
            let incoming = Incoming { body: got.body, left, path: path.clone() };
            Ok(incoming.into_stream().boxed())
        }
        // Empty objects have no ranges; some servers answer 200 instead of 416.
        Some(0) => Ok(stream::empty().boxed()),
        _ => Err(StoreError::new("read_range", path, ErrorKind::Unsupported)
            .because("the server did not answer with the range that it was asked for")),
    }
}

/// A body of which `left` bytes are still to come.
struct Incoming {
    body: ByteStream,
    left: u64,
    path: RelPath,
}

impl Incoming {
    async fn into_body(self, len: u64) -> Result<Body, StoreError> {
        if len > WHOLE {
            return Ok(Body::Stream(self.into_stream().map_ok(Chunk::Data).boxed()));
        }
        let pieces: Vec<Bytes> = self.into_stream().try_collect().await?;
        Ok(Body::Whole(match <[Bytes; 1]>::try_from(pieces) {
            Ok([only]) => only,
            Err(pieces) => pieces.concat().into(),
        }))
    }

    fn into_stream(self) -> impl futures::Stream<Item = Result<Bytes, StoreError>> + Send {
        stream::try_unfold(
            self,
            |mut incoming| async move { Ok(incoming.next().await?.map(|bytes| (bytes, incoming))) },
        )
    }

    /// A connection that ends early is an error of its own to HTTP, but not through every proxy: hence the count.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let broken = || StoreError::new("read", &self.path, ErrorKind::Unavailable);
        match self.body.try_next().await.map_err(|error| broken().because(error))? {
            Some(bytes) => {
                let left = self.left.checked_sub(bytes.len() as u64);
                self.left = left.ok_or_else(|| broken().because("more bytes than the answer promised"))?;
                Ok(Some(bytes))
            }
            None if self.left > 0 => Err(broken().because(format!("the body ended {} bytes early", self.left))),
            None => Ok(None),
        }
    }
}
