//! The logs of Azure Storage, in both shapes: the classic one (`1.0;…`, `2.0;…`) and the resource logs of Azure Monitor
//! (JSON). Which is which, a record's first byte tells. See docs/formats/azure-storage.md.

use crate::change::{Entry, Op};
use crate::dialect::{Clock, Delivery, Dialect};
use crate::effect::{self, Effect};
use crate::error::ParseError;
use crate::json::{self, Status, Text};
use crate::object::Objects;
use crate::{time, url};
use chrono::{NaiveDateTime, TimeDelta};
use memchr::{memchr, memmem};
use serde::Deserialize;
use std::borrow::Cow;

/// Fields of version 1.0; version 2.0 has more.
const FIELDS: usize = 30;
/// Those before the request's id, none of which can hold a quote or a semicolon that is its own.
const FRONT: usize = 13;

/// The dialect `azure-storage`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AzureStorage;

impl Dialect for AzureStorage {
    fn name(&self) -> &'static str {
        "azure-storage"
    }

    fn clock(&self) -> Clock {
        Clock::Utc
    }

    fn delivery(&self) -> Delivery {
        Delivery::Objects(TimeDelta::hours(1))
    }

    fn cannot_tell(&self) -> &'static [&'static str] {
        &[
            "the other end of a rename in a classic log, and in a resource log without sourceUri and destinationUri: its account is scanned",
            "the end of a copy that goes on after its request: the blob is looked at before it is whole",
            "requests whose lines were lost: logging is best effort",
        ]
    }

    fn begins(&self, line: &[u8]) -> bool {
        const CHANGES: [&[u8]; 2] = [b"\"category\":\"StorageWrite\"", b"\"category\":\"StorageDelete\""];
        let is_resource = || line.starts_with(b"{") && CHANGES.iter().any(|sign| memmem::find(line, sign).is_some());
        Request::of(line).is_ok() || is_resource()
    }

    fn id<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        match record.first()? {
            b'{' => serde_json::from_slice::<Id>(record).ok().map(|id| id.correlation_id.as_bytes()),
            _ => front(record).ok().map(|(_, rest)| &rest[..memchr(b';', rest).unwrap_or(rest.len())]),
        }
    }

    fn parse(&self, record: &[u8], out: &mut Vec<Entry>) -> Result<NaiveDateTime, ParseError> {
        let request = Request::of(record)?;
        if !request.was_refused() && request.is_of_files() {
            request.say(out);
        }
        Ok(request.time)
    }

    fn salvage(&self, record: &[u8], out: &mut Vec<Entry>) {
        let [time, operation, key] = ["time", "operationName", "objectKey"].map(|key| json::salvage(record, key));
        let place = key.as_ref().and_then(|key| Place::of_key(key.as_bytes()));
        let (Some(time), Some(place)) = (time.and_then(|time| time::rfc3339(time.as_bytes())), place) else { return };
        let is_quiet = |operation: Text| matches!(doing_of(&operation.to_str()), Doing::Effect(Effect::Nothing));
        if !operation.is_some_and(is_quiet) {
            place.say(Effect::Unknown, &mut Objects::new(time, None, out));
        }
    }
}

/// What both shapes say. Text is empty where they do not.
struct Request<'a> {
    time: NaiveDateTime,
    operation: Cow<'a, [u8]>,
    /// `Success`, `SASNetworkError`, `BlobNotFound`, …
    outcome: Cow<'a, [u8]>,
    /// The status is that of a refusal. (That of an interrupted request may be none.)
    is_refusal: bool,
    /// `blob`, `file`, `queue`, `table`
    service: Cow<'a, [u8]>,
    account: Cow<'a, [u8]>,
    url: Cow<'a, [u8]>,
    /// `/account/container/blob`, decoded; of a copy's source an address.
    key: Cow<'a, [u8]>,
    /// Both ends of a rename, as addresses.
    source: Cow<'a, [u8]>,
    destination: Cow<'a, [u8]>,
    user: Cow<'a, [u8]>,
}

impl<'a> Request<'a> {
    fn of(record: &'a [u8]) -> Result<Self, ParseError> {
        match record.first() {
            Some(b'{') => of_json(record),
            Some(b'1' | b'2') => of_fields(record),
            _ => Err(ParseError::malformed(0, "1.0; or 2.0; or a JSON object")),
        }
    }

    /// An interrupted request may have changed what it names.
    fn was_refused(&self) -> bool {
        let is_interrupted = self.outcome.ends_with(b"NetworkError") || self.outcome.ends_with(b"TimeoutError");
        self.is_refusal && !is_interrupted
    }

    fn is_of_files(&self) -> bool {
        !matches!(&*self.service, b"queue" | b"table")
    }

    fn say(&self, out: &mut Vec<Entry>) {
        match doing_of(&String::from_utf8_lossy(&self.operation)) {
            Doing::Effect(Effect::Nothing) => (),
            Doing::Effect(effect) => self.say_effect(effect, out),
            Doing::Rename => self.say_rename(out),
        }
    }

    fn say_effect(&self, effect: Effect, out: &mut Vec<Entry>) {
        let (_, query) = url::split_query(&self.url);
        let names_version = url::has_parameter(query, b"snapshot") || url::has_parameter(query, b"versionid");
        let effect = if names_version { effect.of_version() } else { effect };
        let mut objects = Objects::new(self.time, self.user(), out);
        match self.place() {
            Some(place) => place.say(effect, &mut objects),
            None => objects.rescan_bucket(&self.account),
        }
    }

    fn user(&self) -> Option<&str> {
        std::str::from_utf8(&self.user).ok().filter(|user| !user.is_empty())
    }

    /// The path in the key; in the address, if there is no key.
    fn place(&self) -> Option<Place<'_>> {
        Place::of_key(&self.key).or_else(|| Place::of_url(&self.url, &self.account))
    }

    /// Where the record names one end only, the other may be in any container of the account.
    fn say_rename(&self, out: &mut Vec<Entry>) {
        let own = self.place().map(Place::path);
        let end = |url| Place::of_url(url, &self.account).map(Place::path).or_else(|| own.clone());
        match (end(&self.source), end(&self.destination)) {
            (Some(path), Some(to)) if path != to => {
                let user = self.user().map(str::to_owned);
                out.push(Entry { time: self.time, op: Op::Rename, path, to: Some(to), into: false, user });
            }
            _ => Objects::new(self.time, self.user(), out).rescan_bucket(self.account_of(own.as_deref())),
        }
    }

    /// The account, as the record names it or a path in it.
    fn account_of<'p>(&'p self, path: Option<&'p [u8]>) -> &'p [u8] {
        let of_path = || path.map_or(&b""[..], |path| split(&path[1..]).0);
        if self.account.is_empty() { of_path() } else { &self.account }
    }
}

/// Account, container and blob.
#[derive(Debug, Clone)]
struct Place<'a> {
    account: Cow<'a, [u8]>,
    container: Cow<'a, [u8]>,
    blob: Cow<'a, [u8]>,
}

impl<'a> Place<'a> {
    /// `/account/container/blob`, as it is.
    fn of_key(key: &'a [u8]) -> Option<Self> {
        let (account, rest) = split(key.strip_prefix(b"/")?);
        let (container, blob) = split(rest);
        (!account.is_empty()).then(|| Self { account: account.into(), container: container.into(), blob: blob.into() })
    }

    /// `https://account.blob.core.windows.net:443/container/blob?…`, with `%20` and the like.
    fn of_url(url: &'a [u8], account: &'a [u8]) -> Option<Self> {
        let at = memmem::find(url, b"://")?;
        let (host, path) = split(url::split_query(&url[at + 3..]).0);
        let label = host.split(|byte| matches!(byte, b'.' | b':')).next().unwrap_or_default();
        let account = if account.is_empty() { label } else { account };
        let (container, blob) = split(path);
        Some(Self { account: account.into(), container: url::percent(container), blob: url::percent(blob) })
    }

    fn bucket(&self) -> Vec<u8> {
        if self.container.is_empty() {
            self.account.to_vec()
        } else {
            [&self.account, &b"/"[..], &self.container].concat()
        }
    }

    fn say(&self, effect: Effect, objects: &mut Objects) {
        let blob = if self.blob.is_empty() { &[][..] } else { std::slice::from_ref(&self.blob) };
        effect.say(objects, &self.bucket(), blob);
    }

    /// As the path of an entry: without a slash at its end.
    fn path(self) -> Vec<u8> {
        let path = [b"/", &*self.bucket(), b"/", &self.blob].concat();
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(1, |last| last + 1);
        path[..end].to_vec()
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, b""),
    }
}

// The classic shape.

fn of_fields(record: &[u8]) -> Result<Request<'_>, ParseError> {
    let is_version = record.starts_with(b"1.0;") || record.starts_with(b"2.0;");
    is_version.then_some(()).ok_or(ParseError::malformed(0, "1.0; or 2.0;"))?;
    let (fields, rest) = front(record)?;
    // What follows may have quotes within quotes, and a list with semicolons: there are at least as many as fields.
    let left = memchr::memchr_iter(b';', rest).count();
    (left + 1 >= FIELDS - FRONT).then_some(()).ok_or(ParseError::malformed(record.len(), "30 fields"))?;
    let [_, time, operation, outcome, status, _, _, _, requester, owner, service, url, key] = fields;
    let time = time::rfc3339(time).ok_or(ParseError::malformed(4, "request-start-time, in UTC"))?;
    let is_name = !operation.is_empty() && operation.iter().all(u8::is_ascii_alphanumeric);
    is_name.then_some(()).ok_or(ParseError::malformed(4, "operation-type"))?;
    Ok(Request {
        time,
        operation: text(operation),
        outcome: text(outcome),
        is_refusal: effect::status(status).is_some_and(effect::is_refusal),
        service: text(service),
        account: text(owner),
        url: text(url),
        key: text(key),
        source: Cow::Borrowed(b""),
        destination: Cow::Borrowed(b""),
        user: text(requester),
    })
}

/// The first fields, and what follows the semicolon after them.
fn front(record: &[u8]) -> Result<([&[u8]; FRONT], &[u8]), ParseError> {
    let (mut fields, mut at) = ([&record[..0]; FRONT], 0);
    for field in &mut fields {
        let end = field_end(record, at).ok_or(ParseError::malformed(at, "30 fields with semicolons between them"))?;
        *field = &record[at..end];
        at = end + 1;
    }
    Ok((fields, &record[at..]))
}

/// Where the semicolon is that ends the field which begins at a place. Quotes of its own a field writes as `&quot;`.
fn field_end(record: &[u8], at: usize) -> Option<usize> {
    let rest = record.get(at..)?;
    let from = match rest.strip_prefix(b"\"") {
        Some(quoted) => memchr(b'"', quoted)? + 2,
        None => 0,
    };
    memchr(b';', &rest[from..]).filter(|gap| from == 0 || *gap == 0).map(|gap| at + from + gap)
}

/// A field's text, without quotes around it and with its character references undone.
fn text(field: &[u8]) -> Cow<'_, [u8]> {
    let inner = field.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(field);
    if memchr(b'&', inner).is_some() { Cow::Owned(unescaped(inner)) } else { Cow::Borrowed(inner) }
}

/// Undoes `&quot;`, `&amp;`, `&lt;`, `&gt;`, `&apos;`, `&#59;` and `&#x3B;`, once. Other text stays.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = memchr(b'&', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (piece, length) = reference(rest).unwrap_or(('&', 1));
        out.extend_from_slice(piece.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
    out
}

/// The character that a reference at the start of a text means, and its length in bytes.
fn reference(text: &[u8]) -> Option<(char, usize)> {
    let end = memchr(b';', &text[..text.len().min(12)])?;
    let code = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
    let character = match std::str::from_utf8(&text[1..end]).ok()? {
        "quot" => '"',
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "apos" => '\'',
        name => match name.strip_prefix('#')? {
            digits if digits.starts_with(['x', 'X']) => code(&digits[1..], 16)?,
            digits => code(digits, 10)?,
        },
    };
    Some((character, end + 1))
}

// The resource logs.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Id<'a> {
    correlation_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    #[serde(borrow)]
    time: Text<'a>,
    #[serde(borrow)]
    category: Text<'a>,
    #[serde(borrow)]
    operation_name: Text<'a>,
    #[serde(default)]
    status_code: Status,
    #[serde(borrow)]
    status_text: Option<Text<'a>>,
    #[serde(borrow)]
    uri: Option<Text<'a>>,
    #[serde(borrow)]
    identity: Option<Identity<'a>>,
    #[serde(borrow)]
    properties: Option<Properties<'a>>,
}

#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(borrow)]
    requester: Option<Requester<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Requester<'a> {
    #[serde(borrow)]
    upn: Option<Text<'a>>,
    #[serde(borrow)]
    object_id: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    #[serde(borrow)]
    account_name: Option<Text<'a>>,
    #[serde(borrow)]
    service_type: Option<Text<'a>>,
    #[serde(borrow)]
    object_key: Option<Text<'a>>,
    #[serde(borrow)]
    source_uri: Option<Text<'a>>,
    #[serde(borrow)]
    destination_uri: Option<Text<'a>>,
}

fn of_json(record: &[u8]) -> Result<Request<'_>, ParseError> {
    let resource: Resource = json::read(record, "a resource log: time, category, operationName, properties")?;
    let time = time::rfc3339(resource.time.as_bytes()).ok_or(ParseError::malformed(0, "time, in UTC"))?;
    let is_storage = matches!(resource.category.as_bytes(), b"StorageRead" | b"StorageWrite" | b"StorageDelete");
    is_storage.then_some(()).ok_or(ParseError::malformed(0, "category: StorageRead, StorageWrite or StorageDelete"))?;
    Ok(resource.request(time))
}

impl<'a> Resource<'a> {
    fn request(self, time: NaiveDateTime) -> Request<'a> {
        let own = self.properties.unwrap_or_default();
        let requester = self.identity.and_then(|identity| identity.requester).unwrap_or_default();
        Request {
            time,
            operation: self.operation_name.into_bytes(),
            outcome: text_of(self.status_text),
            is_refusal: self.status_code.is_refusal(),
            service: text_of(own.service_type),
            account: text_of(own.account_name),
            url: text_of(self.uri),
            key: text_of(own.object_key),
            source: text_of(own.source_uri),
            destination: text_of(own.destination_uri),
            user: text_of(requester.upn.or(requester.object_id)),
        }
    }
}

fn text_of(text: Option<Text<'_>>) -> Cow<'_, [u8]> {
    text.unwrap_or_default().into_bytes()
}

// What operations do.

enum Doing {
    Effect(Effect),
    Rename,
}

fn doing_of(operation: &str) -> Doing {
    let effect = match operation {
        "PutBlob"
        | "PutBlobFromURL"
        | "PutBlockList"
        | "CopyBlob"
        | "CopyBlobFromURL"
        | "IncrementalCopyBlob"
        | "AbortCopyBlob"
        | "AppendBlock"
        | "AppendBlockFromURL"
        | "PutPage"
        | "PutPageFromURL"
        | "ClearPage"
        | "UndeleteBlob"
        | "CreatePathFile"
        | "AppendFile"
        | "FlushFile"
        | "CreateFile"
        | "CopyFile"
        | "AbortCopyFile"
        | "PutRange"
        | "PutRangeFromURL"
        | "ClearRange" => Effect::Names(Op::Write),
        "DeleteBlob" | "DeleteFile" => Effect::Names(Op::Delete),
        "DeletePathFile" | "DeletePathDir" | "DeleteDirectory" => Effect::Directory(Op::Delete),
        "CreatePathDir" | "CreateDirectory" => Effect::Directory(Op::Mkdir),
        "SetBlobMetadata"
        | "SetBlobProperties"
        | "SetBlobTier"
        | "SetBlobTags"
        | "SetBlobExpiry"
        | "SetFileProperties"
        | "SetFileMetadata"
        | "SetDirectoryMetadata"
        | "SetDirectoryProperties" => Effect::Names(Op::Attr),
        // May go down the tree.
        "SetPathAccessControl" | "SetAccessControl" | "SetPathAccessControlRecursive" | "SetAccessControlRecursive" => {
            Effect::Directory(Op::Rescan)
        }
        "CreateContainer" | "CreateFilesystem" | "CreateShare" => Effect::Bucket(Op::Mkdir),
        "DeleteContainer" | "DeleteFilesystem" | "DeleteShare" => Effect::Bucket(Op::Delete),
        "RenameContainer" | "RestoreBlobRanges" => Effect::Anywhere,
        "PutBlock"
        | "PutBlockFromURL"
        | "CopyBlobSource"
        | "CopyBlobDestination"
        | "CopyFileSource"
        | "CopyFileDestination"
        | "SnapshotBlob"
        | "SnapshotShare"
        | "CreateFileSnapshot"
        | "BlobPreflightRequest"
        | "FilePreflightRequest"
        | "ReadFile" => Effect::Nothing,
        operation if operation.contains("Rename") => return Doing::Rename,
        operation => of_family(operation),
    };
    Doing::Effect(effect)
}

/// Reads, leases and settings have too many names to list; they share their words.
fn of_family(operation: &str) -> Effect {
    let is_read = ["Get", "List", "Find", "Query"].iter().any(|read| operation.starts_with(read));
    let is_lease = operation.ends_with("Lease") || operation.starts_with("Lease");
    let is_setting = operation.starts_with("Set")
        && ["Container", "Share", "Service", "Filesystem"].iter().any(|of| operation.contains(of));
    if is_read || is_lease || is_setting { Effect::Nothing } else { Effect::Unknown }
}
