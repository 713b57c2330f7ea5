//! The two questions that the RPC client cannot ask: whether a file is under construction, and which inode a path is.
//! Over WebHDFS, with simple authentication.

use super::super::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CONNECT_MAX: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The HTTP servers of the NameNodes of one cluster.
#[derive(Debug)]
pub struct WebHdfs {
    http: reqwest::Client,
    /// `host:port`; of several, one is active.
    addresses: Vec<String>,
    /// The one that answered last.
    active: AtomicUsize,
    user: String,
}

/// Why there is no answer. Prints which address was asked and how another one is set.
#[derive(Debug, thiserror::Error)]
#[error(
    "WebHDFS at http://{address}: {why} (the NameNode's HTTP server, `dfs.namenode.http-address`, is set with `http_address`)"
)]
pub struct WebError {
    pub kind: ErrorKind,
    address: String,
    why: String,
}

impl WebHdfs {
    pub fn new(addresses: Vec<String>, user: String) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            // Hadoop's own clients ignore the environment's proxies, too.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, addresses, active: AtomicUsize::new(0), user })
    }

    /// True if a writer has the file open. Asks for the last of its `len` bytes only, as the answer names each
    /// block that it is asked for.
    pub async fn is_under_construction(&self, path: &str, len: u64) -> Result<bool, WebError> {
        let last = len.saturating_sub(1);
        let answer = self.get(path, &format!("op=GET_BLOCK_LOCATIONS&offset={last}&length=1")).await?;
        let flag = answer.body["LocatedBlocks"]["isUnderConstruction"].as_bool();
        flag.ok_or_else(|| answer.odd("no `isUnderConstruction` in the answer"))
    }

    /// The number of the inode at `path`, which is never given to another file or directory.
    pub async fn file_id(&self, path: &str) -> Result<u64, WebError> {
        let answer = self.get(path, "op=GETFILESTATUS").await?;
        answer.body["FileStatus"]["fileId"].as_u64().ok_or_else(|| answer.odd("no `fileId` in the answer"))
    }

    /// Asks the NameNodes in turn until one of them is the active one.
    async fn get(&self, path: &str, query: &str) -> Result<Answer, WebError> {
        let first = self.active.load(Ordering::Relaxed);
        let mut failure = None;
        for at in (0..self.addresses.len()).map(|turn| (first + turn) % self.addresses.len()) {
            match self.get_at(&self.addresses[at], path, query).await {
                Err(error) if error.kind == ErrorKind::Unavailable => failure = Some(error),
                answer => {
                    self.active.store(at, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(failure.unwrap_or_else(|| WebError::unavailable("", "no address is known")))
    }

    async fn get_at(&self, address: &str, path: &str, query: &str) -> Result<Answer, WebError> {
        let (path, user) = (encode(path), encode(&self.user));
        let url = format!("http://{address}/webhdfs/v1{path}?{query}&user.name={user}");
        let unavailable = |error: reqwest::Error| WebError::unavailable(address, chain(&error.without_url()));
        let response = self.http.get(url).send().await.map_err(unavailable)?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(unavailable)?;
        let body = serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null);
        let answer = Answer { address: address.to_owned(), body };
        if status == 200 { Ok(answer) } else { Err(answer.refusal(status)) }
    }
}

struct Answer {
    address: String,
    body: serde_json::Value,
}

impl Answer {
    fn odd(&self, why: &str) -> WebError {
        WebError::unavailable(&self.address, why)
    }

    fn refusal(&self, status: u16) -> WebError {
        let exception = &self.body["RemoteException"];
        let class = exception["javaClassName"].as_str();
        // An answer of anything but HDFS, and a demand for Kerberos, prove nothing about the path.
        let kind = class.map_or(ErrorKind::Unavailable, super::error::kind_of_class);
        let message = exception["message"].as_str().unwrap_or_default();
        let why = format!("status {status} {} {message}", class.unwrap_or_default());
        WebError { kind, address: self.address.clone(), why: why.trim_end().to_owned() }
    }
}

impl WebError {
    fn unavailable(address: &str, why: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unavailable, address: address.to_owned(), why: why.into() }
    }
}

/// Jetty refuses some characters that are legal in HDFS names, and URL parsers drop others: everything but the plainest is encoded.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that gives one answer to every request.
    async fn server(answer: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        address
    }

    async fn ask(addresses: Vec<String>) -> Result<bool, WebError> {
        WebHdfs::new(addresses, "me".into()).expect("a client").is_under_construction("/f", 0).await
    }

    const OPEN: &str = "HTTP/1.0 200 OK\r\n\r\n{\"LocatedBlocks\":{\"isUnderConstruction\":true}}";
    const STANDBY: &str = "HTTP/1.0 403 Forbidden\r\n\r\n\
        {\"RemoteException\":{\"javaClassName\":\"org.apache.hadoop.ipc.StandbyException\",\"message\":\"standby\"}}";
    const GONE: &str = "HTTP/1.0 404 Not Found\r\n\r\n\
        {\"RemoteException\":{\"javaClassName\":\"java.io.FileNotFoundException\",\"message\":\"gone\"}}";

    #[tokio::test]
    async fn the_active_namenode_is_found_among_several() {
        let addresses = vec![server(STANDBY).await, server(OPEN).await];
        assert!(ask(addresses).await.expect("an answer"));
    }

    #[tokio::test]
    async fn only_hdfs_itself_can_say_that_a_file_is_gone() {
        assert_eq!(ask(vec![server(GONE).await]).await.expect_err("gone").kind, ErrorKind::NotFound);
        let proxy = server("HTTP/1.0 404 Not Found\r\n\r\n<html>").await;
        assert_eq!(ask(vec![proxy]).await.expect_err("no HDFS").kind, ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn anything_but_a_clear_answer_is_never_closed() {
        for odd in ["HTTP/1.0 200 OK\r\n\r\n{}", "HTTP/1.0 200 OK\r\n\r\n<html>", "HTTP/1.0 401 No\r\n\r\n", "nonsense"]
        {
            assert_eq!(ask(vec![server(odd).await]).await.expect_err(odd).kind, ErrorKind::Unavailable, "{odd}");
        }
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_named() {
        let error = ask(vec!["127.0.0.1:1".into()]).await.expect_err("nobody listens");
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let said = error.to_string();
        assert!(said.contains("http://127.0.0.1:1") && said.contains("http_address"), "{said}");
    }

    #[test]
    fn odd_names_are_encoded_byte_by_byte() {
        assert_eq!(encode("/a b/[x]\n%20é"), "/a%20b/%5Bx%5D%0A%2520%C3%A9");
    }
}
