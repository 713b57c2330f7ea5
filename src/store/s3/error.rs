//! What an error of the SDK means to a caller: the one place that knows the codes. Only an answer that
//! names a missing key is `not found`; HEAD, whose answers have no code, is looked at where it is asked.

use super::super::{ErrorKind, StoreError};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;
use syncd_parsers::RelPath;

/// What a request of the SDK may fail with.
pub(super) type Sdk<E> = SdkError<E, HttpResponse>;

const NO_BUCKET: &str = "NoSuchBucket";

/// What a server said when it refused.
#[derive(Debug, thiserror::Error)]
#[error("{status} {code}: {message}")]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

/// The store's error for the SDK's.
pub(super) fn failure<E>(op: &'static str, path: &RelPath, error: Sdk<E>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match refusal(&error) {
        Some(refusal) => refused(op, path, refusal),
        None => StoreError::new(op, path, unanswered(&error)).because(error),
    }
}

/// The store's error for a refusal, which may also come inside an answer (a batch delete).
pub(super) fn refused(op: &'static str, path: &RelPath, refusal: Refusal) -> StoreError {
    StoreError::new(op, path, kind_of(refusal.status, &refusal.code)).because(refusal)
}

/// For the one question that is about the bucket itself. Elsewhere a bucket that vanished must never
/// read as "this file is gone".
pub(super) fn missing_bucket_is_not_found(error: StoreError) -> StoreError {
    let refusal = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<Refusal>());
    let kind = if refusal.is_some_and(|refusal| refusal.code == NO_BUCKET) { ErrorKind::NotFound } else { error.kind };
    StoreError { kind, ..error }
}

fn refusal<E: ProvideErrorMetadata>(error: &Sdk<E>) -> Option<Refusal> {
    let SdkError::ServiceError(answer) = error else { return None };
    Some(Refusal {
        status: answer.raw().status().as_u16(),
        code: answer.err().code().unwrap_or("without a code").to_owned(),
        message: answer.err().message().unwrap_or("no message").to_owned(),
    })
}

/// A request that could not be built is a mistake of the settings; all else may be better next time.
fn unanswered<E>(error: &Sdk<E>) -> ErrorKind {
    match error {
        SdkError::ConstructionFailure(_) => ErrorKind::Other,
        _ => ErrorKind::Unavailable,
    }
}

/// The code decides where it is known, else the status. `404` by itself is not a "not found": it is
/// also what a proxy or a wrong endpoint says.
pub(super) fn kind_of(status: u16, code: &str) -> ErrorKind {
    match code {
        "NoSuchKey" => ErrorKind::NotFound,
        NO_BUCKET | "NoSuchUpload" | "RequestTimeTooSkewed" => ErrorKind::Other,
        "PreconditionFailed" => ErrorKind::Changed,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidTokenId"
        | "InvalidSecurity" => ErrorKind::PermissionDenied,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "ReduceRequestRate" => ErrorKind::Throttled,
        "InternalError"
        | "RequestTimeout"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "IncompleteBody"
        | "BadDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => ErrorKind::Unavailable,
        "KeyTooLongError"
        | "InvalidObjectName"
        | "InvalidURI"
        | "InvalidArgument"
        | "EntityTooLarge"
        | "EntityTooSmall"
        | "MetadataTooLarge"
        | "InvalidObjectState"
        | "NotImplemented"
        | "MethodNotAllowed"
        | "MalformedXML"
        | "MissingContentMD5"
        | "XMinioInvalidObjectName"
        | "XMinioInvalidResourceName"
        | "XMinioParentIsObject"
        | "XMinioObjectExistsAsDirectory"
        | "ParentIsObject"
        | "ObjectParentIsFile"
        | "ExistingObjectIsDirectory" => ErrorKind::Unsupported,
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => ErrorKind::NoSpace,
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::PermissionDenied,
        408 => ErrorKind::Unavailable,
        412 => ErrorKind::Changed,
        413 | 414 | 501 => ErrorKind::Unsupported,
        429 | 503 => ErrorKind::Throttled,
        507 => ErrorKind::NoSpace,
        500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::{Changed, NoSpace, NotFound, Other, PermissionDenied, Throttled, Unavailable, Unsupported};

    #[test]
    fn only_a_named_missing_key_is_not_found() {
        assert_eq!(kind_of(404, "NoSuchKey"), NotFound);
        // `NotFound` is what the SDK calls any empty 404.
        for code in ["NoSuchBucket", "NotFound", "NoSuchUpload", "", "NoSuchTagSet"] {
            assert_eq!(kind_of(404, code), Other, "{code:?}");
        }
    }

    #[test]
    fn codes_are_what_a_caller_can_do_about_them() {
        for (status, code, kind) in [
            (403, "AccessDenied", PermissionDenied),
            (400, "ExpiredToken", PermissionDenied),
            (503, "SlowDown", Throttled),
            (200, "SlowDown", Throttled),
            (200, "InternalError", Unavailable),
            (400, "RequestTimeout", Unavailable),
            (400, "BadDigest", Unavailable),
            (409, "OperationAborted", Unavailable),
            (412, "PreconditionFailed", Changed),
            (400, "KeyTooLongError", Unsupported),
            (400, "XMinioParentIsObject", Unsupported),
            (403, "InvalidObjectState", Unsupported),
            (403, "QuotaExceeded", NoSpace),
            (403, "RequestTimeTooSkewed", Other),
        ] {
            assert_eq!(kind_of(status, code), kind, "{status} {code}");
        }
    }

    #[test]
    fn without_a_known_code_the_status_decides() {
        for (status, kind) in [
            (301, Other),
            (400, Other),
            (401, PermissionDenied),
            (403, PermissionDenied),
            (404, Other),
            (412, Changed),
            (429, Throttled),
            (500, Unavailable),
            (501, Unsupported),
            (502, Unavailable),
            (503, Throttled),
            (504, Unavailable),
            (507, NoSpace),
        ] {
            assert_eq!(kind_of(status, "something new"), kind, "{status}");
        }
    }

    #[test]
    fn a_missing_bucket_is_not_found_only_where_the_bucket_is_meant() {
        let answer = |code: &str| Refusal { status: 404, code: code.to_owned(), message: String::new() };
        let error = refused("identity", &RelPath::root(), answer("NoSuchBucket"));
        assert_eq!(error.kind, Other);
        assert_eq!(missing_bucket_is_not_found(error).kind, NotFound);
        let other = refused("identity", &RelPath::root(), answer("NoSuchTagSet"));
        assert_eq!(missing_bucket_is_not_found(other).kind, Other);
    }
}
