//! Writing objects: one request for small files, parts for large ones, always with a checksum that the
//! server checks. Memory for one file: [`IN_FLIGHT`] bytes, or one part where parts must be larger than that.

use super::super::{Body, Chunk, ErrorKind, Kind, Meta, StoreError};
use super::attrs::{self, Metadata};
use super::error::{Sdk, failure};
use super::{S3, carrying, server_side};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, TryStreamExt};
use std::error::Error;
use syncd_parsers::RelPath;

/// The largest object that S3 and its kin agree on.
const OBJECT_BYTES: u64 = 5 << 40;
const PARTS: u64 = 10_000;
/// Bytes of one file that may be on their way at once.
const IN_FLIGHT: u64 = 64 << 20;

impl S3 {
    pub(super) async fn put_file(&self, path: &RelPath, meta: &Meta, body: Body) -> Result<(), StoreError> {
        let key = self.file_key("put", path)?;
        if meta.len > OBJECT_BYTES {
            return Err(StoreError::new("put", path, ErrorKind::Unsupported).because("S3 holds no more than 5 TiB"));
        }
        let metadata = attrs::written(&Meta { kind: Kind::File, ..meta.clone() });
        let (target, part) =
            (Target { op: "put", path: path.clone(), key }, part_bytes(self.limits.part_bytes, meta.len));
        let mut pieces = Pieces::new(path, meta.len, part, body);
        if meta.len > self.limits.part_bytes {
            return self.put_parts(&target, metadata, pieces).await;
        }
        let bytes = pieces.next().await?.unwrap_or_default();
        // The end of the body may still be an error, and then nothing is written.
        let more = pieces.next().await?;
        debug_assert!(more.is_none(), "`Pieces` refuses more bytes than the meta says");
        self.put_bytes(&target, metadata, bytes).await
    }

    /// Writes the marker of the directory at `path`. The root of a whole bucket has no key for one.
    pub(super) async fn put_marker(
        &self,
        op: &'static str,
        path: &RelPath,
        metadata: Metadata,
    ) -> Result<(), StoreError> {
        let key = self.dir_key(op, path)?;
        if key.is_empty() {
            return Ok(());
        }
        self.put_bytes(&Target { op, path: path.clone(), key }, metadata, Bytes::new()).await
    }

    async fn put_bytes(&self, at: &Target, metadata: Metadata, bytes: Bytes) -> Result<(), StoreError> {
        let settings = carrying(bytes.len() as u64);
        let request = self.client.put_object().bucket(&self.bucket).key(&at.key).set_metadata(Some(metadata));
        let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32).body(ByteStream::from(bytes));
        request.customize().config_override(settings).send().await.map_err(|error| at.failed(error))?;
        Ok(())
    }

    /// Nothing is visible before the last request, which joins the parts.
    async fn put_parts(&self, at: &Target, metadata: Metadata, pieces: Pieces) -> Result<(), StoreError> {
        let request = self.client.create_multipart_upload().bucket(&self.bucket).key(&at.key);
        let request = request.set_metadata(Some(metadata)).checksum_algorithm(ChecksumAlgorithm::Crc32);
        let upload = request.send().await.map_err(|error| at.failed(error))?;
        let upload = Upload { s3: self.clone(), at: at.clone(), id: at.some(upload.upload_id())? };
        let parts = upload.send(pieces).await;
        upload.finish(parts).await
    }
}

/// What is being written, for requests and for errors.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) op: &'static str,
    pub(super) path: RelPath,
    pub(super) key: String,
}

impl Target {
    pub(super) fn failed<E: ProvideErrorMetadata + Error + Send + Sync + 'static>(&self, error: Sdk<E>) -> StoreError {
        failure(self.op, &self.path, error)
    }

    /// A field that an answer has to have.
    pub(super) fn some(&self, field: Option<&str>) -> Result<String, StoreError> {
        let missing = || StoreError::new(self.op, &self.path, ErrorKind::Other).because("the answer is incomplete");
        field.map(str::to_owned).ok_or_else(missing)
    }
}

/// An upload in parts that has been begun. Cheap to clone beside a part of it.
#[derive(Clone)]
pub(super) struct Upload {
    pub(super) s3: S3,
    pub(super) at: Target,
    pub(super) id: String,
}

impl Upload {
    async fn send(&self, pieces: Pieces) -> Result<Vec<CompletedPart>, StoreError> {
        let at_once = usize::try_from(IN_FLIGHT / pieces.size).unwrap_or(1).max(1);
        let numbered = stream::try_unfold((1, pieces), |(number, mut pieces)| async move {
            Ok(pieces.next().await?.map(|bytes| ((number, bytes), (number + 1, pieces))))
        });
        let sent = numbered.map_ok(|(number, bytes)| {
            let upload = self.clone();
            async move { upload.send_part(number, bytes).await }
        });
        sent.try_buffer_unordered(at_once).try_collect().await
    }

    async fn send_part(&self, number: i32, bytes: Bytes) -> Result<CompletedPart, StoreError> {
        let settings = carrying(bytes.len() as u64);
        let request = self.s3.client.upload_part().bucket(&self.s3.bucket).key(&self.at.key).upload_id(&self.id);
        let request = request.part_number(number).checksum_algorithm(ChecksumAlgorithm::Crc32);
        let request = request.body(ByteStream::from(bytes)).customize().config_override(settings);
        let sent = request.send().await.map_err(|error| self.at.failed(error))?;
        let part = CompletedPart::builder().part_number(number).e_tag(self.at.some(sent.e_tag())?);
        Ok(part.set_checksum_crc32(sent.checksum_crc32).build())
    }

    /// Joins the parts, or gives them up and returns why.
    pub(super) async fn finish(&self, parts: Result<Vec<CompletedPart>, StoreError>) -> Result<(), StoreError> {
        let finished = match parts {
            Ok(parts) => self.complete(parts).await,
            Err(error) => Err(error),
        };
        if finished.is_err() {
            self.abort().await;
        }
        finished
    }

    async fn complete(&self, mut parts: Vec<CompletedPart>) -> Result<(), StoreError> {
        parts.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.s3.client.complete_multipart_upload().bucket(&self.s3.bucket).key(&self.at.key);
        let request = request.upload_id(&self.id).multipart_upload(parts).customize().config_override(server_side());
        let done = request.send().await.map_err(|error| self.at.failed(error))?;
        self.at.some(done.e_tag()).map(drop)
    }

    /// The error that led here matters more than one of this request.
    async fn abort(&self) {
        let request = self.s3.client.abort_multipart_upload().bucket(&self.s3.bucket).key(&self.at.key);
        if let Err(error) = request.upload_id(&self.id).send().await {
            let error = self.at.failed(error);
            tracing::warn!(path = %self.at.path, %error, "parts of an upload may be left behind");
        }
    }
}

/// Large enough that `len` bytes need no more parts than there may be, in whole MiB.
pub(super) fn part_bytes(least: u64, len: u64) -> u64 {
    least.max(len.div_ceil(PARTS).next_multiple_of(1 << 20))
}

/// A body cut into pieces of `size` bytes (the last one may be shorter), holes filled with zeros.
struct Pieces {
    path: RelPath,
    chunks: BoxStream<'static, Result<Chunk, StoreError>>,
    /// What is left of a chunk that did not fit into the piece before.
    rest: Chunk,
    /// Bytes that are still to come, by what the meta says.
    left: u64,
    size: u64,
}

impl Pieces {
    fn new(path: &RelPath, len: u64, size: u64, body: Body) -> Self {
        Self { path: path.clone(), chunks: body.into_stream(), rest: Chunk::Data(Bytes::new()), left: len, size }
    }

    /// # Errors
    ///
    /// Those of the body; [`ErrorKind::Changed`] if it is not as long as its meta says.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let want = self.left.min(self.size);
        let mut piece = BytesMut::with_capacity(usize::try_from(want).unwrap_or(0));
        while (piece.len() as u64) < want {
            if is_empty(&self.rest) {
                self.rest = self.chunks.try_next().await?.ok_or_else(|| self.wrong_length())?;
            }
            fill(&mut piece, &mut self.rest, want);
        }
        self.left -= want;
        if self.left == 0 {
            self.expect_end().await?;
        }
        Ok((want > 0).then(|| piece.freeze()))
    }

    async fn expect_end(&mut self) -> Result<(), StoreError> {
        while is_empty(&self.rest) {
            let Some(chunk) = self.chunks.try_next().await? else { return Ok(()) };
            self.rest = chunk;
        }
        Err(self.wrong_length())
    }

    fn wrong_length(&self) -> StoreError {
        StoreError::new("put", &self.path, ErrorKind::Changed).because("the body is not as long as it was said to be")
    }
}

fn is_empty(chunk: &Chunk) -> bool {
    match chunk {
        Chunk::Data(bytes) => bytes.is_empty(),
        Chunk::Hole(len) => *len == 0,
    }
}

/// Moves bytes from `chunk` to `piece`, until one is used up or the other has `want` bytes.
fn fill(piece: &mut BytesMut, chunk: &mut Chunk, want: u64) {
    let room = usize::try_from(want).unwrap_or(usize::MAX) - piece.len();
    match chunk {
        Chunk::Data(bytes) => piece.extend_from_slice(&bytes.split_to(room.min(bytes.len()))),
        Chunk::Hole(len) => {
            let zeros = usize::try_from(*len).unwrap_or(usize::MAX).min(room);
            piece.resize(piece.len() + zeros, 0);
            *len -= zeros as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    /// As the local store makes them: whoever asks again after the end panics.
    fn body(chunks: &[Chunk]) -> Body {
        let chunks = Vec::from(chunks).into_iter();
        let unfolded = stream::unfold(chunks, |mut chunks| async move { Some((Ok(chunks.next()?), chunks)) });
        Body::Stream(unfolded.boxed())
    }

    async fn pieces(len: u64, size: u64, body: Body) -> Result<Vec<Vec<u8>>, ErrorKind> {
        let mut pieces = Pieces::new(&RelPath::root(), len, size, body);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await.map_err(|error| error.kind)? {
            all.push(piece.to_vec());
        }
        Ok(all)
    }

    #[tokio::test]
    async fn chunks_of_any_size_become_pieces_of_one() {
        let chunks = [Chunk::Data("abcdefg".into()), Chunk::Hole(5), Chunk::Data("".into()), Chunk::Data("x".into())];
        let cut = pieces(13, 4, body(&chunks)).await.expect("a good body");
        assert_eq!(cut, [&b"abcd"[..], b"efg\0", b"\0\0\0\0", b"x"]);
        assert_eq!(pieces(4, 4, Body::Whole("abcd".into())).await.expect("a good body"), [b"abcd"]);
        assert!(pieces(0, 4, Body::Whole(Bytes::new())).await.expect("an empty body").is_empty());
    }

    #[tokio::test]
    async fn a_body_of_another_length_is_refused_before_its_last_piece() {
        for (len, bytes) in [(3, "abcd"), (5, "abcd"), (0, "a"), (1, "")] {
            assert_eq!(pieces(len, 4, Body::Whole(bytes.into())).await, Err(ErrorKind::Changed), "{len} {bytes:?}");
        }
    }

    #[tokio::test]
    async fn an_error_at_the_end_of_a_body_comes_before_its_last_piece() {
        let error = StoreError::new("read", &RelPath::root(), ErrorKind::Unavailable);
        let chunks = stream::iter([Ok(Chunk::Data("ab".into())), Err(error)]);
        assert_eq!(pieces(2, 2, Body::Stream(chunks.boxed())).await, Err(ErrorKind::Unavailable));
    }

    #[test]
    fn parts_grow_with_the_file_and_are_never_too_many() {
        let least = 16 << 20;
        assert_eq!(part_bytes(least, 17 << 20), least);
        assert_eq!(part_bytes(least, PARTS * least), least);
        for len in [PARTS * least + 1, OBJECT_BYTES] {
            assert!(len.div_ceil(part_bytes(least, len)) <= PARTS, "{len}");
        }
        assert_eq!(part_bytes(least, OBJECT_BYTES), 525 << 20);
    }
}
