//! Logs as rotations pack them.

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use tokio::io::AsyncWriteExt;

pub async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(bytes).await.expect("compresses");
    encoder.shutdown().await.expect("compresses");
    encoder.into_inner()
}

pub async fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZstdEncoder::new(Vec::new());
    encoder.write_all(bytes).await.expect("compresses");
    encoder.shutdown().await.expect("compresses");
    encoder.into_inner()
}
