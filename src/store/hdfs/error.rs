//! What an error of HDFS means to a caller. The only place that knows the Java classes by which HDFS says what is wrong.

use super::super::ErrorKind;
use hdfs_native::HdfsError;

/// What a caller can do about an error of the RPC client. All kinds of them are here.
pub fn kind_of(error: &HdfsError) -> ErrorKind {
    match error {
        HdfsError::FileNotFound(_) => ErrorKind::NotFound,
        HdfsError::AlreadyExists(_) => ErrorKind::AlreadyExists,
        HdfsError::RPCError(class, message) | HdfsError::FatalRPCError(class, message) => {
            // Too few DataNodes, or none with space, for the moment: an `IOException` like many others.
            let no_datanode =
                message.contains("could only be written to") || message.contains("could only be replicated to");
            if no_datanode { ErrorKind::Unavailable } else { kind_of_class(class) }
        }
        HdfsError::IOError(_)
        | HdfsError::DataTransferError(_)
        | HdfsError::ChecksumError
        | HdfsError::BlocksNotFound(_) => ErrorKind::Unavailable,
        // The DataNodes did not report the last block in time. (Also used for encryption zones without keys.)
        HdfsError::OperationFailed(message) if message.contains("in time") => ErrorKind::Unavailable,
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => {
            ErrorKind::PermissionDenied
        }
        HdfsError::InvalidPath(_)
        | HdfsError::InvalidArgument(_)
        | HdfsError::UnsupportedErasureCodingPolicy(_)
        | HdfsError::UnsupportedFeature(_) => ErrorKind::Unsupported,
        HdfsError::UrlParseError(_)
        | HdfsError::OperationFailed(_)
        | HdfsError::IsADirectoryError(_)
        | HdfsError::TrashNotEnabled
        | HdfsError::ErasureCodingError(_)
        | HdfsError::InternalError(_)
        | HdfsError::InvalidRPCResponse(_)
        | HdfsError::XmlParseError(_) => ErrorKind::Other,
    }
}

/// The same for the Java class of an exception, by which HDFS says what is wrong.
pub fn kind_of_class(class: &str) -> ErrorKind {
    match class.rsplit(['.', '$']).next().unwrap_or_default() {
        "FileNotFoundException" | "ParentNotDirectoryException" => ErrorKind::NotFound,
        "FileAlreadyExistsException" => ErrorKind::AlreadyExists,
        "AccessControlException"
        | "AuthorizationException"
        | "InvalidToken"
        | "SaslException"
        | "SecurityException"
        | "SnapshotAccessControlException" => ErrorKind::PermissionDenied,
        "StandbyException"
        | "ObserverRetryOnActiveException"
        | "SafeModeException"
        | "RetriableException"
        | "NotReplicatedYetException"
        | "LeaseExpiredException"
        | "ConnectException"
        | "SocketTimeoutException" => ErrorKind::Unavailable,
        "DSQuotaExceededException"
        | "NSQuotaExceededException"
        | "QuotaExceededException"
        | "QuotaByStorageTypeExceededException" => ErrorKind::NoSpace,
        "InvalidPathException"
        | "HadoopIllegalArgumentException"
        | "IllegalArgumentException"
        | "UnsupportedOperationException"
        | "PathComponentTooLongException"
        | "MaxDirectoryItemsExceededException"
        | "FSLimitException" => ErrorKind::Unsupported,
        _ => ErrorKind::Other,
    }
}

/// Without the Java stack, which would bury the message.
pub fn plain(error: &HdfsError) -> String {
    let said = error.to_string();
    said.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(class: &str) -> ErrorKind {
        kind_of(&HdfsError::RPCError(class.into(), "message".into()))
    }

    #[test]
    fn only_an_answer_that_says_so_is_not_found() {
        assert_eq!(kind_of(&HdfsError::FileNotFound("/f".into())), ErrorKind::NotFound);
        assert_eq!(kind("java.io.FileNotFoundException"), ErrorKind::NotFound);
        assert_eq!(kind("org.apache.hadoop.fs.ParentNotDirectoryException"), ErrorKind::NotFound);
        let others = [
            HdfsError::IOError(std::io::ErrorKind::NotFound.into()),
            HdfsError::BlocksNotFound("/f".into()),
            HdfsError::OperationFailed("anything".into()),
            HdfsError::RPCError("java.io.IOException".into(), "FileNotFoundException".into()),
        ];
        for other in others {
            assert_ne!(kind_of(&other), ErrorKind::NotFound, "{other}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_unavailable() {
        for class in [
            "org.apache.hadoop.ipc.StandbyException",
            "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
            "org.apache.hadoop.ipc.RetriableException",
            "org.apache.hadoop.hdfs.protocol.NotReplicatedYetException",
        ] {
            assert_eq!(kind(class), ErrorKind::Unavailable, "{class}");
        }
        let errors = [
            HdfsError::IOError(std::io::ErrorKind::ConnectionRefused.into()),
            HdfsError::DataTransferError("reset".into()),
            HdfsError::OperationFailed("Failed to complete file in time".into()),
            HdfsError::RPCError(
                "java.io.IOException".into(),
                "File /f could only be written to 0 of the 1 minReplication nodes.".into(),
            ),
        ];
        for error in errors {
            assert_eq!(kind_of(&error), ErrorKind::Unavailable, "{error}");
        }
    }

    #[test]
    fn refusals_have_the_kind_that_someone_acts_on() {
        for (class, expected) in [
            ("org.apache.hadoop.security.AccessControlException", ErrorKind::PermissionDenied),
            ("org.apache.hadoop.security.token.SecretManager$InvalidToken", ErrorKind::PermissionDenied),
            ("org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", ErrorKind::NoSpace),
            ("org.apache.hadoop.hdfs.protocol.NSQuotaExceededException", ErrorKind::NoSpace),
            ("org.apache.hadoop.fs.InvalidPathException", ErrorKind::Unsupported),
            ("org.apache.hadoop.hdfs.protocol.FSLimitException$PathComponentTooLongException", ErrorKind::Unsupported),
            ("java.lang.NullPointerException", ErrorKind::Other),
        ] {
            assert_eq!(kind(class), expected, "{class}");
        }
        assert_eq!(kind_of(&HdfsError::AlreadyExists("/f".into())), ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_cause_is_one_line_without_the_java_stack() {
        let error = HdfsError::RPCError("java.io.IOException".into(), "no\n\tat a.b.C(C.java:1)".into());
        assert_eq!(plain(&error), "RPC error: java.io.IOException no");
    }
}
