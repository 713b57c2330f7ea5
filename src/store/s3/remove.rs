//! Deleting objects: exact keys, in batches, and every error that an answer names is an error.

use super::super::{ErrorKind, StoreError};
use super::copy::utf8_key;
use super::error::{Refusal, failure, refused};
use super::keys::{KeyError, fits_xml};
use super::list::Depth;
use super::{S3, unsupported};
use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};
use syncd_parsers::RelPath;

/// Keys of one request, by S3's limit.
const BATCH: usize = 1000;
/// How often a tree is listed again: once for each key that hid others below it, one above the other.
const LISTINGS: usize = 600;

impl S3 {
    pub(super) async fn remove_files(&self, files: &[RelPath]) -> Result<(), StoreError> {
        let mut keys = Vec::with_capacity(files.len());
        for path in files {
            match self.keys.file(path) {
                Ok(key) => keys.push(key),
                Err(cause @ KeyError::Root) => return Err(unsupported("remove", path, cause)),
                // What no key can spell is not there.
                Err(_) => {}
            }
        }
        let first = files.first().cloned().unwrap_or_default();
        self.delete("remove", &first, keys).await
    }

    /// Lists again until nothing is left, since an object may have hidden others from the listing before it was deleted.
    pub(super) async fn remove_below(&self, path: &RelPath) -> Result<(), StoreError> {
        if path.is_root() {
            return Err(unsupported("remove_tree", path, KeyError::Root));
        }
        let Ok(prefix) = self.keys.dir(path) else { return Ok(()) };
        for _ in 0..LISTINGS {
            if !self.remove_listed(path, &prefix).await? {
                return Ok(());
            }
        }
        Err(StoreError::new("remove_tree", path, ErrorKind::Unavailable).because("somebody keeps writing below it"))
    }

    /// True if there was something.
    async fn remove_listed(&self, path: &RelPath, prefix: &str) -> Result<bool, StoreError> {
        let (mut token, mut any) = (None, false);
        loop {
            let page = self.page(("remove_tree", path), prefix, Depth::All, token).await?;
            let keys = page.found.into_iter().map(|found| utf8_key("remove_tree", path, found.key));
            let keys: Vec<String> = keys.collect::<Result<_, _>>()?;
            any |= !keys.is_empty();
            self.delete("remove_tree", path, keys).await?;
            token = page.next;
            if token.is_none() {
                return Ok(any);
            }
        }
    }

    /// Deletes exactly these keys; well for those that are not there.
    pub(super) async fn delete(&self, op: &'static str, path: &RelPath, keys: Vec<String>) -> Result<(), StoreError> {
        let (batched, alone): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| fits_xml(key));
        for batch in batched.chunks(BATCH) {
            match batch {
                [only] => self.delete_one(op, path, only).await?,
                batch => self.delete_batch(op, path, batch).await?,
            }
        }
        for key in &alone {
            self.delete_one(op, path, key).await?;
        }
        Ok(())
    }

    /// Where a server does not know the batch request, one after the other.
    async fn delete_batch(&self, op: &'static str, path: &RelPath, keys: &[String]) -> Result<(), StoreError> {
        let built = |key: &String| ObjectIdentifier::builder().key(key).build();
        let objects = keys.iter().map(built).collect::<Result<Vec<_>, _>>();
        let delete = objects.and_then(|objects| Delete::builder().set_objects(Some(objects)).quiet(true).build());
        let delete = delete.map_err(|error| StoreError::new(op, path, ErrorKind::Other).because(error))?;
        match self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await {
            Ok(answer) => answer.errors().iter().try_for_each(|error| one_failed(op, path, error)),
            Err(error) => match failure(op, path, error) {
                error if error.kind == ErrorKind::Unsupported => self.delete_each(op, path, keys).await,
                error => Err(error),
            },
        }
    }

    async fn delete_each(&self, op: &'static str, path: &RelPath, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            self.delete_one(op, path, key).await?;
        }
        Ok(())
    }

    async fn delete_one(&self, op: &'static str, path: &RelPath, key: &str) -> Result<(), StoreError> {
        match self.client.delete_object().bucket(&self.bucket).key(key).send().await {
            Ok(_) => Ok(()),
            Err(error) => match failure(op, path, error) {
                error if error.kind == ErrorKind::NotFound => Ok(()),
                error => Err(error),
            },
        }
    }
}

/// An error inside an answer whose status is 200.
fn one_failed(op: &'static str, path: &RelPath, error: &Error) -> Result<(), StoreError> {
    let code = error.code().unwrap_or("without a code").to_owned();
    let message = format!("{} `{}`", error.message().unwrap_or("no message"), error.key().unwrap_or_default());
    match refused(op, path, Refusal { status: 200, code, message }) {
        error if error.kind == ErrorKind::NotFound => Ok(()),
        error => Err(error),
    }
}
