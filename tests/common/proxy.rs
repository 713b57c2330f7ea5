//! A proxy in front of an HTTP server that misbehaves as networks and busy servers do: `503` in bursts, connections that end before
//! or after the server has done what it was asked, bodies that are slow or cut. What it does is drawn from a seed, or told.

use super::dice::Dice;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const HEAD_MAX: usize = 64 << 10;
const SLOW_PIECES: usize = 10;
const SLOW_PIECE_EVERY: Duration = Duration::from_millis(20);
const BURST_MAX: usize = 12;
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>SlowDown</Code><Message>Please reduce your \
                         request rate.</Message></Error>";
const DENIED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code><Message>Access \
                      Denied.</Message></Error>";

/// What is done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    None,
    /// `503`, and for some requests after this one.
    Busy,
    /// `403`, which is not asked again.
    Denied,
    /// The connection ends, and the server never hears of the request.
    Reset,
    /// The server gets half of the body, or of the head where there is no body.
    HalfRequest,
    /// The server did it, and nobody hears of that.
    AnswerLost,
    SlowAnswer,
    /// Half of the answer's body.
    CutAnswer,
}

/// What is done to one request, of those that are meant.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// By the first line of a request.
    pub meant: fn(&str) -> bool,
    /// So many of them come before it.
    pub after: usize,
    pub fault: Fault,
    /// No answer comes, and [`Proxy::stopped`] returns: whoever asked is to end.
    pub ends_client: bool,
}

/// Listens until it is dropped.
pub struct Proxy {
    /// `http://127.0.0.1:PORT`
    pub endpoint: String,
    shared: Arc<Shared>,
    listening: tokio::task::JoinHandle<()>,
}

struct Shared {
    server: String,
    on: AtomicBool,
    trouble: Mutex<Trouble>,
    stops: Mutex<VecDeque<Stop>>,
    stopped: Notify,
    told: Mutex<BTreeMap<Fault, u64>>,
    /// The first lines of the requests that the server did, as far as it said so.
    done: Mutex<Vec<String>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Proxy {
    /// In front of `endpoint`, behaving well at first.
    pub async fn start(endpoint: &str, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: endpoint.trim_start_matches("http://").to_owned(),
            on: AtomicBool::new(false),
            trouble: Mutex::new(Trouble { dice: Dice::of(seed), burst: 0 }),
            stops: Mutex::default(),
            stopped: Notify::new(),
            told: Mutex::default(),
            done: Mutex::default(),
        });
        let listening = tokio::spawn(listen(listener, shared.clone()));
        Ok(Self { endpoint: format!("http://{address}"), shared, listening })
    }

    pub fn misbehave(&self, on: bool) {
        self.shared.on.store(on, Ordering::SeqCst);
    }

    /// One after another, each when the one before was met; instead of those that were there.
    pub fn stop_at(&self, stops: &[Stop]) {
        *self.shared.stops.lock().expect("no panic") = stops.iter().copied().collect();
    }

    /// How many of them were not met yet.
    pub fn stops(&self) -> usize {
        self.shared.stops.lock().expect("no panic").len()
    }

    /// Returns when a request was met that ends the client.
    pub async fn stopped(&self) {
        self.shared.stopped.notified().await;
    }

    /// The first lines of the requests that the server did since the last call, whether the client heard of it or not.
    pub fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.done.lock().expect("no panic"))
    }

    /// How often it did what.
    pub fn words(&self) -> String {
        format!("{:?}", self.shared.told.lock().expect("no panic"))
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        // Ends with an error whenever it is told to, or the other end goes away.
        tokio::spawn(async move { shared.serve(client).await.is_ok() });
    }
}

impl Shared {
    /// One request, after which the connection ends.
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let Some(request) = Request::read(&mut client).await? else { return Ok(()) };
        let (fault, ends_client) = self.draw(&request.head);
        *self.told.lock().expect("no panic").entry(fault).or_default() += 1;
        let answer = self.passed_on(&request, fault).await;
        if ends_client {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
        let Some(answer) = answer? else { return Ok(()) };
        match fault {
            Fault::AnswerLost => Ok(()),
            Fault::CutAnswer => client.write_all(&answer[..half_of_body(&answer)]).await,
            Fault::SlowAnswer => slowly(&mut client, &answer).await,
            _ => client.write_all(&answer).await,
        }
    }

    /// The answer, unless none comes.
    async fn passed_on(&self, request: &Request, fault: Fault) -> io::Result<Option<Vec<u8>>> {
        match fault {
            Fault::Reset => return Ok(None),
            Fault::Busy => return Ok(Some(refusal("503 Slow Down", SLOW_DOWN))),
            Fault::Denied => return Ok(Some(refusal("403 Forbidden", DENIED))),
            _ => {}
        }
        let mut server = TcpStream::connect(&self.server).await?;
        if fault == Fault::HalfRequest {
            server.write_all(&request.half()).await?;
            return Ok(None);
        }
        server.write_all(request.head.as_bytes()).await?;
        server.write_all(&request.body).await?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await?;
        if answer.starts_with(b"HTTP/1.1 2") {
            self.done.lock().expect("no panic").push(first_line(&request.head).to_owned());
        }
        Ok(Some(answer))
    }

    fn draw(&self, head: &str) -> (Fault, bool) {
        let mut stops = self.stops.lock().expect("no panic");
        if let Some(stop) = stops.front_mut().filter(|stop| (stop.meant)(first_line(head))) {
            if stop.after > 0 {
                stop.after -= 1;
                return (Fault::None, false);
            }
            let met = (stop.fault, stop.ends_client);
            stops.pop_front();
            return met;
        }
        let is_on = self.on.load(Ordering::SeqCst);
        (if is_on { self.trouble.lock().expect("no panic").draw() } else { Fault::None }, false)
    }
}

fn first_line(head: &str) -> &str {
    head.lines().next().unwrap_or_default()
}

fn refusal(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n");
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}

async fn slowly(client: &mut TcpStream, answer: &[u8]) -> io::Result<()> {
    for piece in answer.chunks(answer.len() / SLOW_PIECES + 1) {
        client.write_all(piece).await?;
        tokio::time::sleep(SLOW_PIECE_EVERY).await;
    }
    Ok(())
}

fn half_of_body(answer: &[u8]) -> usize {
    let body = end_of_head(answer).unwrap_or(0);
    body + (answer.len() - body) / 2
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// A request whose connection ends after the answer.
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// `None` if the client asks nothing.
    async fn read(client: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = end_of_head(&bytes) {
                break end;
            }
            if bytes.len() > HEAD_MAX || client.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        };
        let mut body = bytes.split_off(end);
        let text = String::from_utf8(bytes).map_err(io::Error::other)?;
        let length = header(&text, "content-length").map_or(0, |value| value.parse().expect("a length"));
        assert!(header(&text, "transfer-encoding").is_none(), "the S3 client says how long its bodies are");
        if header(&text, "expect").is_some() {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        while body.len() < length {
            if client.read_buf(&mut body).await? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(Self { head: without_keeping(&text), body }))
    }

    fn half(&self) -> Vec<u8> {
        if self.body.is_empty() {
            return self.head.as_bytes()[..self.head.len() / 2].to_vec();
        }
        [self.head.as_bytes(), &self.body[..self.body.len() / 2]].concat()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let pairs = head.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The head of a request, but for what is said of the connection.
fn without_keeping(head: &str) -> String {
    let ours = |line: &&str| !["connection:", "expect:"].iter().any(|name| line.to_lowercase().starts_with(name));
    let lines: Vec<&str> = head.trim_end().lines().filter(ours).collect();
    lines.join("\r\n") + "\r\nConnection: close\r\n\r\n"
}

/// What faults come, and how many answers of a burst are still to come.
struct Trouble {
    dice: Dice,
    burst: usize,
}

impl Trouble {
    fn draw(&mut self) -> Fault {
        if self.burst > 0 {
            self.burst -= 1;
            return Fault::Busy;
        }
        match self.dice.below(100) {
            0 => {
                self.burst = self.dice.below(BURST_MAX);
                Fault::Busy
            }
            1..3 => Fault::Reset,
            3 => Fault::HalfRequest,
            4..7 => Fault::AnswerLost,
            7 => Fault::SlowAnswer,
            8..11 => Fault::CutAnswer,
            _ => Fault::None,
        }
    }
}
