//! Any key, written as each object store writes it, comes back; whatever else a client may write into the same line.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;
use syncd_parsers::dialect::by_name;
use syncd_parsers::records::{self, End, Parsed};

/// Parts that keys and user agents are made of, the worst first.
const PARTS: [&str; 22] = [
    "\" \"",
    "\" 404 1 1 \"",
    "\" \"GetObject\" \"abc\" \"k\" 1 1 \"-\" 1 \"u\" \"",
    "\"",
    "\",\"",
    "\"\"",
    ";",
    "&amp;",
    "&#59;",
    "&",
    "%20",
    "%",
    "+",
    " ",
    "?versionId=",
    "/",
    "\\",
    "é",
    "😀",
    "#",
    "=",
    "a",
];

fn text(most: usize) -> impl Strategy<Value = String> {
    vec(select(&PARTS[..]), 0..=most).prop_map(|parts| parts.concat())
}

/// Not a marker of a directory, and not a path that a URL could not tell from one with another bucket.
fn key() -> impl Strategy<Value = String> {
    text(6).prop_map(|text| format!("k{text}z"))
}

fn in_url(key: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'/';
    key.bytes()
        .map(|byte| if is_plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn in_html(key: &str) -> String {
    key.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

fn parse(dialect: &str, record: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let dialect = by_name(dialect).expect("a dialect");
    records::parse_block(dialect, format!("{record}\n").as_bytes(), 0, End::Closed, &mut parsed);
    parsed
}

fn names(dialect: &str, record: &str, path: &str) -> Result<(), TestCaseError> {
    let parsed = parse(dialect, record);
    let is_named = parsed.entries.iter().any(|(_, entry)| entry.path == path.as_bytes());
    prop_assert!(is_named, "{record}\ngives {:?} {:?}", parsed.entries, parsed.bad);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn of_oss_as_it_is_or_as_in_urls(key in key(), agent in text(4), is_encoded: bool) {
        let object = if is_encoded { in_url(&key) } else { key.clone() };
        let record = format!(
            "10.0.0.1 - - [03/Jan/2021:14:59:49 +0800] \"PUT /{} HTTP/1.1\" 200 0 21 \"-\" \"{agent}\" \"lake.oss-cn-hangzhou.aliyuncs.com\" \
             \"5FF16B65F05BC932307A3C3C\" \"true\" \"16571836914537\" \"PutObject\" \"lake\" \"{object}\" 1024 12 \"-\" 302 \"16571836914537\" 1024 \"-\"",
            in_url(&key)
        );
        names("oss-access", &record, &format!("/lake/{key}"))?;
    }

    #[test]
    fn of_cos(key in key(), agent in text(4)) {
        let record = format!(
            "1.0 lake-1250000000 ap-beijing 2018-12-01T11:02:33Z lake.cos.myqcloud.com PutObject 10.0.0.1 AKID - 1 1 /{} put \"{agent}\" 200 - - 197 4295 USER",
            in_url(&key)
        );
        names("cos-access", &record, &format!("/lake-1250000000/{key}"))?;
    }

    #[test]
    fn of_gcs_usage(key in key(), agent in text(4)) {
        let values = ["1531116650186616", "10.0.0.1", "1", "", "PUT", "/lake/k", "200", "11", "0", "26", "host", "", &agent, "id", "PUT_Object", "lake", &key];
        let record = values.map(|value| format!("\"{}\"", value.replace('"', "\"\""))).join(",");
        names("gcs-usage", &record, &format!("/lake/{key}"))?;
    }

    #[test]
    fn of_gcs_audit(key in key(), agent in text(4)) {
        let resource = format!("projects/_/buckets/lake/objects/{key}");
        let payload = json!({
            "serviceName": "storage.googleapis.com", "methodName": "storage.objects.create", "resourceName": resource,
            "requestMetadata": {"callerSuppliedUserAgent": agent},
        });
        let record = json!({"protoPayload": payload, "timestamp": "2021-04-09T17:57:16.7Z"}).to_string();
        names("gcs-audit", &record, &format!("/lake/{key}"))?;
    }

    #[test]
    fn of_azure_in_the_classic_log(key in key(), agent in text(4)) {
        let record = format!(
            "1.0;2014-09-08T18:49:25.5834856Z;PutBlob;Success;201;7;7;authenticated;acc;acc;blob;\"https://acc.blob.core.windows.net/c/{}\";\"/acc/c/{}\";\
             9e9c;0;10.0.0.1:4362;2011-08-18;325;0;225;0;0;;;;;;\"{}\";;",
            in_url(&key), in_html(&key), in_html(&agent)
        );
        names("azure-storage", &record, &format!("/acc/c/{key}"))?;
    }

    #[test]
    fn of_azure_in_resource_logs(key in key(), agent in text(4), has_key: bool) {
        let mut properties = json!({"accountName": "acc", "serviceType": "blob", "userAgentHeader": agent});
        if has_key {
            properties["objectKey"] = format!("/acc/c/{key}").into();
        }
        let record = json!({
            "time": "2019-02-28T19:10:21.2123117Z", "category": "StorageWrite", "operationName": "PutBlob", "statusCode": 201,
            "uri": format!("https://acc.blob.core.windows.net:443/c/{}", in_url(&key)), "properties": properties,
        });
        names("azure-storage", &record.to_string(), &format!("/acc/c/{key}"))?;
    }

    #[test]
    fn no_damaged_record_makes_a_dialect_panic(bytes in vec(any::<u8>(), 0..8), at in 0_usize..400, key in key()) {
        for (dialect, record) in [
            ("oss-access", format!("10.0.0.1 - - [03/Jan/2021:14:59:49 +0800] \"PUT /k HTTP/1.1\" 200 0 21 \"-\" \"a\" \"h\" \"ID\" \"true\" \"1\" \"PutObject\" \"lake\" \"{key}\" 1 1 \"-\" 3 \"1\" - \"-\"")),
            ("cos-access", format!("1.0 lake-1250000000 ap-beijing 2018-12-01T11:02:33Z h PutObject 10.0.0.1 A - 1 1 /{} put \"a\" 200 - -", in_url(&key))),
            ("azure-storage", format!("1.0;2014-09-08T18:49:25.5Z;PutBlob;Success;201;7;7;a;acc;acc;blob;\"https://h/c/k\";\"/acc/c/{}\";;;;;;;;;;;;;;;;;", in_html(&key))),
            ("gcs-usage", format!("\"1531116650186616\",\"1\",\"1\",\"\",\"PUT\",\"/k\",\"200\",\"1\",\"0\",\"2\",\"h\",\"\",\"a\",\"id\",\"PUT_Object\",\"lake\",\"{}\"", key.replace('"', "\"\""))),
            ("gcs-audit", json!({"protoPayload": {"serviceName": "storage.googleapis.com", "methodName": "storage.objects.move", "resourceName": key}, "timestamp": "2021-04-09T17:57:16.7Z"}).to_string()),
        ] {
            let mut record = record.into_bytes();
            let at = at.min(record.len());
            record.splice(at..(at + bytes.len()).min(record.len()), bytes.iter().copied());
            let mut parsed = Parsed::default();
            records::parse_block(by_name(dialect).expect("a dialect"), &record, 0, End::Closed, &mut parsed);
        }
    }
}
