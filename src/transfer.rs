//! Moves one file's bytes from store to store, or compares them, within a budget of memory. Knows two stores, no names.

use crate::store::{Body, Chunk, ErrorKind, Meta, Read, Store, StoreError};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use std::sync::Arc;
use syncd_parsers::RelPath;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that all transfers together may hold.
const BUDGET_BYTES: u64 = 128 << 20;
/// Bytes that one transfer is counted with at most: what the widest store buffers for one file.
const STREAM_BYTES: u64 = 32 << 20;
const UNIT_BYTES: u64 = 1 << 10;

/// The memory that transfers share.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((BUDGET_BYTES / UNIT_BYTES) as usize)))
    }
}

impl Budget {
    async fn take(&self, len: u64) -> OwnedSemaphorePermit {
        let units = len.min(STREAM_BYTES).div_ceil(UNIT_BYTES).max(1) as u32;
        self.0.clone().acquire_many_owned(units).await.expect("this semaphore is never closed")
    }
}

/// Two stores and one path in both.
pub struct Transfer<'a> {
    pub source: &'a dyn Store,
    pub destination: &'a dyn Store,
    pub path: &'a RelPath,
    pub budget: &'a Budget,
}

impl Transfer<'_> {
    /// Copies the file, which was just `seen` at the source; returns the version that the destination now holds.
    ///
    /// # Errors
    ///
    /// Those of [`Store::read`] and [`Store::put`]. Nothing has become visible then.
    pub async fn copy(&self, seen: &Meta) -> Result<Meta, StoreError> {
        let _held = self.budget.take(seen.len).await;
        let read = whole(self.path, self.source.read(self.path, seen).await?)?;
        self.destination.put(self.path, &read.meta, read.body).await?;
        Ok(read.meta)
    }

    /// Reads both sides and says whether every byte is the same.
    ///
    /// # Errors
    ///
    /// Those of [`Store::read`] on either side.
    pub async fn same_bytes(&self, source: &Meta, destination: &Meta) -> Result<bool, StoreError> {
        if source.len != destination.len {
            return Ok(false);
        }
        let _held = self.budget.take(source.len * 2).await;
        let one = whole(self.path, self.source.read(self.path, source).await?)?;
        let other = whole(self.path, self.destination.read(self.path, destination).await?)?;
        same(one.body, other.body).await
    }
}

/// The same, with the proof that the body has as many bytes as its version: what ends early is not the file, whatever the
/// store says.
fn whole(path: &RelPath, read: Read) -> Result<Read, StoreError> {
    let Read { meta, body } = read;
    let body = match body {
        Body::Whole(bytes) if bytes.len() as u64 == meta.len => Body::Whole(bytes),
        Body::Whole(_) => return Err(cut(path)),
        Body::Stream(stream) => Body::Stream(counted(path.clone(), stream, meta.len)),
    };
    Ok(Read { meta, body })
}

type Chunks = BoxStream<'static, Result<Chunk, StoreError>>;

fn counted(path: RelPath, stream: Chunks, len: u64) -> Chunks {
    let chunks = futures::stream::try_unfold((stream, len), move |(mut stream, left)| {
        let path = path.clone();
        async move {
            match stream.try_next().await? {
                None if left == 0 => Ok(None),
                None => Err(cut(&path)),
                Some(chunk) => {
                    let left = left.checked_sub(chunk.len()).ok_or_else(|| cut(&path))?;
                    Ok(Some((chunk, (stream, left))))
                }
            }
        }
    });
    chunks.boxed()
}

fn cut(path: &RelPath) -> StoreError {
    StoreError::new("read", path, ErrorKind::Unavailable).because("the store gave not as many bytes as the file has")
}

/// Both bodies are read to their ends, since only there they prove to be of one version.
async fn same(one: Body, other: Body) -> Result<bool, StoreError> {
    if let (Body::Whole(one), Body::Whole(other)) = (&one, &other) {
        return Ok(one == other);
    }
    let (mut one, mut other) = (Pieces::of(one), Pieces::of(other));
    let mut same = true;
    loop {
        let len = one.fill().await?.min(other.fill().await?);
        if len == 0 {
            return Ok(same && one.fill().await? == 0 && other.fill().await? == 0);
        }
        same &= one.take(len) == other.take(len);
    }
}

/// A body as runs of bytes that can be taken piece by piece.
struct Pieces {
    stream: BoxStream<'static, Result<Chunk, StoreError>>,
    held: bytes::Bytes,
    hole: u64,
}

/// How much of a hole is compared as zeros at a time.
const ZEROS: &[u8] = &[0; 64 << 10];

impl Pieces {
    fn of(body: Body) -> Self {
        Self { stream: body.into_stream(), held: bytes::Bytes::new(), hole: 0 }
    }

    /// Makes sure that something is held, unless the body is at its end; returns how many bytes are.
    async fn fill(&mut self) -> Result<usize, StoreError> {
        while self.held.is_empty() {
            if self.hole > 0 {
                let zeros = self.hole.min(ZEROS.len() as u64);
                self.hole -= zeros;
                self.held = bytes::Bytes::from_static(&ZEROS[..zeros as usize]);
            } else {
                match self.stream.next().await {
                    None => return Ok(0),
                    Some(Ok(Chunk::Data(data))) => self.held = data,
                    Some(Ok(Chunk::Hole(len))) => self.hole = len,
                    Some(Err(error)) => return Err(error),
                }
            }
        }
        Ok(self.held.len())
    }

    fn take(&mut self, len: usize) -> bytes::Bytes {
        self.held.split_to(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn body(chunks: &[&[u8]]) -> Body {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Chunk::Data(Bytes::copy_from_slice(chunk)))).collect();
        Body::Stream(futures::stream::iter(chunks).boxed())
    }

    /// As the stores make them: not to be asked again after the end.
    fn unfolded(chunks: &'static [&'static [u8]]) -> Body {
        let chunks = futures::stream::unfold(chunks, |chunks| async move {
            let (first, rest) = chunks.split_first()?;
            Some((Ok(Chunk::Data(Bytes::from_static(first))), rest))
        });
        Body::Stream(chunks.boxed())
    }

    #[tokio::test]
    async fn a_body_is_not_read_beyond_its_end() {
        for (other, expected) in [(unfolded(&[b"ab", b"c"]), true), (unfolded(&[b"ab"]), false), (unfolded(&[]), false)]
        {
            assert_eq!(same(unfolded(&[b"a", b"bc"]), other).await.expect("no store is involved"), expected);
        }
    }

    #[tokio::test]
    async fn a_body_of_another_length_than_its_version_does_not_pass_for_the_file() {
        let path = RelPath::new("f").expect("a path");
        for (chunks, len, passes) in [
            (&[b"ab".as_slice(), b"c"][..], 3, true),
            (&[b"ab"], 3, false),
            (&[], 3, false),
            (&[b"ab", b"cd"], 3, false),
            (&[], 0, true),
        ] {
            for body in [body(chunks), Body::Whole(chunks.concat().into())] {
                let read = Read { meta: Meta::file(len), body };
                let bytes = match whole(&path, read) {
                    Ok(read) => read.body.into_stream().try_collect::<Vec<_>>().await,
                    Err(error) => Err(error),
                };
                assert_eq!(bytes.map_err(|error| error.kind).is_ok(), passes, "{chunks:?}");
            }
        }
    }

    #[tokio::test]
    async fn bodies_are_equal_by_their_bytes_however_they_are_cut() {
        for (one, other, expected) in [
            (body(&[b"abc", b"", b"d"]), body(&[b"a", b"bcd"]), true),
            (body(&[b"abc"]), body(&[b"abd"]), false),
            (body(&[b"abc"]), body(&[b"ab"]), false),
            (body(&[]), body(&[]), true),
            (body(&[&[0; 100_000]]), Body::Stream(futures::stream::iter([Ok(Chunk::Hole(100_000))]).boxed()), true),
            (Body::Whole(Bytes::from_static(b"x")), body(&[b"x"]), true),
        ] {
            assert_eq!(same(one, other).await.expect("no store is involved"), expected);
        }
    }
}
