//! A real HDFS (a NameNode and a DataNode of Hadoop 3.4.1) on free loopback ports, for tests that want the
//! truth. Fetches Hadoop once with Maven; knows nothing of what the tests do with it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const VERSION: &str = "3.4.1";
const START_MAX: Duration = Duration::from_secs(120);
const POLL_EVERY: Duration = Duration::from_millis(100);
const ROTATED_MAX: usize = 1000;
const HTTP_MAX: Duration = Duration::from_secs(10);

/// A running cluster; ends when it is dropped, and when the test process dies.
pub struct Hdfs {
    /// `hdfs://127.0.0.1:PORT`
    pub uri: String,
    /// `127.0.0.1:PORT` of the NameNode's HTTP server.
    pub http: String,
    /// Holds `hdfs-audit.log` and, where it rotates, `hdfs-audit.log.1` and so on (higher is older).
    pub audit_log_dir: PathBuf,
    options: HdfsOptions,
    install: Install,
    ports: Ports,
    namenode: Option<Daemon>,
    datanode: Option<Daemon>,
    dir: tempfile::TempDir,
}

/// How the cluster is set up.
#[derive(Debug, Clone)]
pub struct HdfsOptions {
    /// The zone that the audit log is written in; nothing in the log says which.
    pub timezone: String,
    /// The audit log rotates when it reaches so many bytes.
    pub audit_rotate_bytes: Option<u64>,
    /// What clients that ask the server write with; a multiple of 512. Small, so that small files have many blocks.
    pub block_bytes: u64,
}

impl Default for HdfsOptions {
    fn default() -> Self {
        Self { timezone: "UTC".into(), audit_rotate_bytes: None, block_bytes: 1 << 20 }
    }
}

/// Whether a cluster can be had on this machine.
///
/// # Errors
///
/// Says what is missing.
pub fn available() -> Result<(), String> {
    if cfg!(not(unix)) {
        return Err("the HDFS harness needs a Unix".into());
    }
    runs("java")?;
    if Install::place().jars().exists() { Ok(()) } else { runs("mvn") }
}

fn runs(tool: &str) -> Result<(), String> {
    let found = Command::new(tool).arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) { Ok(()) } else { Err(format!("`{tool}` does not run")) }
}

impl Hdfs {
    /// Fetches Hadoop if it is not there, formats a new cluster and returns once it takes writes.
    ///
    /// # Errors
    ///
    /// Says what went wrong, with the end of the log of the daemon that it was about.
    pub fn start(options: HdfsOptions) -> Result<Self, String> {
        available()?;
        let install = Install::find_or_fetch()?;
        let dir = tempfile::Builder::new().prefix("syncd-hdfs-").tempdir().map_err(text)?;
        let ports = Ports::free()?;
        let mut hdfs = Self {
            uri: format!("hdfs://127.0.0.1:{}", ports.rpc),
            http: format!("127.0.0.1:{}", ports.http),
            audit_log_dir: dir.path().join("audit"),
            options,
            install,
            ports,
            namenode: None,
            datanode: None,
            dir,
        };
        hdfs.write_conf()?;
        hdfs.format()?;
        hdfs.start_namenode()?;
        hdfs.start_datanode()?;
        Ok(hdfs)
    }

    /// Where `core-site.xml` and `hdfs-site.xml` are: a value for `HADOOP_CONF_DIR`.
    pub fn conf_dir(&self) -> PathBuf {
        self.dir.path().join("conf")
    }

    /// A Java program with Hadoop's client and the cluster's settings on its class path.
    pub fn java(&self) -> Command {
        self.install.java(&self.conf_dir())
    }

    /// `hdfs dfs ARGS…`, the shell that operators use.
    pub fn dfs(&self, args: &[&str]) -> Result<String, String> {
        let mut command = self.java();
        command.arg("org.apache.hadoop.fs.FsShell").args(args);
        run(&mut command)
    }

    /// `hdfs dfsadmin ARGS…`.
    pub fn admin(&self, args: &[&str]) -> Result<String, String> {
        let mut command = self.java();
        command.arg("org.apache.hadoop.hdfs.tools.DFSAdmin").args(args);
        run(&mut command)
    }

    /// The clients of `Writers.java`, as its head says.
    pub fn writers(&self) -> Command {
        let mut java = self.java();
        java.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/Writers.java"));
        java
    }

    /// A writer that holds `path` open; `mode` is `hold` (creates it) or `openappend`.
    pub fn hold(&self, mode: &str, path: &str) -> Result<Holder, String> {
        self.hold_all(mode, &[path])
    }

    /// The same for several files, which all get each command.
    pub fn hold_all(&self, mode: &str, paths: &[&str]) -> Result<Holder, String> {
        let mut java = self.writers();
        java.args([mode, &self.uri]).args(paths).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = java.spawn().map_err(text)?;
        let said = BufReader::new(process.stdout.take().ok_or("no output")?);
        let mut holder = Holder { process, said };
        holder.answer(mode)?;
        Ok(holder)
    }

    /// The zone that the audit log is written in.
    pub fn timezone(&self) -> &str {
        &self.options.timezone
    }

    /// The current audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.audit_log_dir.join("hdfs-audit.log")
    }

    /// Returns once the NameNode answers and, where there is a DataNode, takes writes.
    pub fn start_namenode(&mut self) -> Result<(), String> {
        self.namenode = Some(self.daemon("namenode", "org.apache.hadoop.hdfs.server.namenode.NameNode")?);
        match self.datanode {
            Some(_) => self.wait_for_writes(),
            None => wait_until("the NameNode answers", || self.namenode_state().map(|_| ())),
        }
    }

    pub fn stop_namenode(&mut self) {
        self.namenode = None;
    }

    /// Returns once the cluster takes writes.
    pub fn start_datanode(&mut self) -> Result<(), String> {
        self.datanode = Some(self.daemon("datanode", "org.apache.hadoop.hdfs.server.datanode.DataNode")?);
        self.wait_for_writes()
    }

    pub fn stop_datanode(&mut self) {
        self.datanode = None;
    }

    fn daemon(&self, name: &str, main: &str) -> Result<Daemon, String> {
        let mut java = self.install.java(&self.conf_dir());
        java.arg(format!("-Duser.timezone={}", self.options.timezone));
        java.arg(format!(
            "-Dlog4j.configuration=file:{}",
            self.conf_dir().join(format!("log4j-{name}.properties")).display()
        ));
        Daemon::spawn(java.arg(main), &self.dir.path().join(format!("{name}.out")))
    }

    /// A NameNode that was restarted stays in safe mode for a while, and takes a DataNode that just died for alive.
    fn wait_for_writes(&self) -> Result<(), String> {
        wait_until("the DataNode is live and safe mode is over", || {
            is_running(&self.datanode)?;
            TcpStream::connect(("127.0.0.1", self.ports.data)).map_err(|e| Wait::Longer(e.to_string()))?;
            match self.namenode_state()? {
                State { live: 1.., operational: true } => Ok(()),
                state => Err(Wait::Longer(format!("{state:?}"))),
            }
        })
    }

    fn namenode_state(&self) -> Result<State, Wait> {
        is_running(&self.namenode)?;
        let page = get(&self.http, "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState").map_err(Wait::Longer)?;
        let page: serde_json::Value = serde_json::from_str(&page).map_err(|e| Wait::Longer(e.to_string()))?;
        let bean = &page["beans"][0];
        match (bean["FSState"].as_str(), bean["NumLiveDataNodes"].as_u64()) {
            (Some(state), Some(live)) => Ok(State { operational: state == "Operational", live }),
            _ => Err(Wait::Longer("no FSNamesystemState yet".into())),
        }
    }

    fn format(&self) -> Result<(), String> {
        let mut java = self.install.java(&self.conf_dir());
        java.args(["org.apache.hadoop.hdfs.server.namenode.NameNode", "-format", "-nonInteractive"]);
        run(&mut java).map(|_| ())
    }

    fn write_conf(&self) -> Result<(), String> {
        let conf = self.conf_dir();
        fs::create_dir_all(&self.audit_log_dir).map_err(text)?;
        fs::create_dir_all(&conf).map_err(text)?;
        let dir = self.dir.path().display();
        let core = [("fs.defaultFS", self.uri.clone()), ("hadoop.tmp.dir", format!("{dir}/tmp"))];
        fs::write(conf.join("core-site.xml"), site(&core)).map_err(text)?;
        fs::write(conf.join("hdfs-site.xml"), site(&self.hdfs_site())).map_err(text)?;
        fs::write(conf.join("log4j.properties"), log4j("WARN")).map_err(text)?;
        fs::write(conf.join("log4j-datanode.properties"), log4j("INFO")).map_err(text)?;
        fs::write(conf.join("log4j-namenode.properties"), log4j("INFO") + &self.audit()).map_err(text)
    }

    fn hdfs_site(&self) -> Vec<(&'static str, String)> {
        let dir = self.dir.path().display();
        let local = |port: u16| format!("127.0.0.1:{port}");
        vec![
            ("dfs.namenode.rpc-address", local(self.ports.rpc)),
            ("dfs.namenode.http-address", local(self.ports.http)),
            ("dfs.datanode.address", local(self.ports.data)),
            ("dfs.datanode.http.address", local(self.ports.data_http)),
            ("dfs.datanode.ipc.address", local(self.ports.data_ipc)),
            ("dfs.namenode.name.dir", format!("file://{dir}/name")),
            ("dfs.datanode.data.dir", format!("file://{dir}/data")),
            ("dfs.replication", "1".into()),
            ("dfs.blocksize", self.options.block_bytes.to_string()),
            ("dfs.namenode.fs-limits.min-block-size", "1".into()),
            ("dfs.namenode.safemode.extension", "0".into()),
            ("dfs.heartbeat.interval", "1".into()),
            ("dfs.client.block.write.replace-datanode-on-failure.policy", "NEVER".into()),
            // With one DataNode a Java client otherwise waits 0.4 s for its report at each close.
            ("dfs.client.block.write.locateFollowingBlock.initial.delay.ms", "10".into()),
        ]
    }

    fn audit(&self) -> String {
        let appender = match self.options.audit_rotate_bytes {
            None => "log4j.appender.AUD=org.apache.log4j.FileAppender\n".to_owned(),
            Some(bytes) => format!(
                "log4j.appender.AUD=org.apache.log4j.RollingFileAppender\n\
                 log4j.appender.AUD.MaxFileSize={bytes}\n\
                 log4j.appender.AUD.MaxBackupIndex={ROTATED_MAX}\n"
            ),
        };
        format!(
            "{appender}\
             log4j.appender.AUD.File={}\n\
             log4j.appender.AUD.layout=org.apache.log4j.PatternLayout\n\
             log4j.appender.AUD.layout.ConversionPattern=%d{{ISO8601}} %p %c{{2}}: %m%n\n\
             log4j.logger.org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit=INFO,AUD\n\
             log4j.additivity.org.apache.hadoop.hdfs.server.namenode.FSNamesystem.audit=false\n",
            self.audit_log().display()
        )
    }
}

fn log4j(level: &str) -> String {
    format!(
        "log4j.rootLogger={level},ERR\n\
         log4j.appender.ERR=org.apache.log4j.ConsoleAppender\n\
         log4j.appender.ERR.target=System.err\n\
         log4j.appender.ERR.layout=org.apache.log4j.PatternLayout\n\
         log4j.appender.ERR.layout.ConversionPattern=%d{{ISO8601}} %p %c{{2}}: %m%n\n\
         log4j.logger.org.apache.hadoop.util.NativeCodeLoader=ERROR\n"
    )
}

fn site(properties: &[(&str, String)]) -> String {
    let lines = properties
        .iter()
        .map(|(name, value)| format!("  <property><name>{name}</name><value>{value}</value></property>\n"));
    format!("<configuration>\n{}</configuration>\n", lines.collect::<String>())
}

/// What the NameNode says about itself.
#[derive(Debug)]
struct State {
    /// Out of safe mode.
    operational: bool,
    live: u64,
}

/// Hadoop's jars, fetched once for all test binaries of this build directory.
struct Install {
    dir: PathBuf,
}

impl Install {
    fn place() -> Self {
        Self { dir: servers_dir().join(format!("hdfs-{VERSION}")) }
    }

    fn find_or_fetch() -> Result<Self, String> {
        let install = Self::place();
        fs::create_dir_all(&install.dir).map_err(text)?;
        // Released when the file is closed, also by a kill.
        let lock = File::create(install.dir.join("lock")).map_err(text)?;
        lock.lock().map_err(text)?;
        if !install.jars().exists() {
            install.fetch()?;
        }
        Ok(install)
    }

    fn jars(&self) -> PathBuf {
        self.dir.join("lib")
    }

    fn fetch(&self) -> Result<(), String> {
        let (pom, partial) = (self.dir.join("pom.xml"), self.dir.join("lib.partial"));
        fs::write(&pom, pom_xml()).map_err(text)?;
        for app in ["hdfs", "datanode", "secondary", "static"] {
            let web_inf = self.dir.join("classes/webapps").join(app).join("WEB-INF");
            fs::create_dir_all(&web_inf).map_err(text)?;
            fs::write(web_inf.join("web.xml"), "<web-app/>\n").map_err(text)?;
        }
        run(Command::new("mvn")
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .args(["dependency:copy-dependencies", &format!("-DoutputDirectory={}", partial.display())]))?;
        fs::rename(&partial, self.jars()).map_err(text)
    }

    fn java(&self, conf: &Path) -> Command {
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]);
        for package in ["lang", "util", "io", "net", "nio", "lang.reflect"] {
            java.arg(format!("--add-opens=java.base/java.{package}=ALL-UNNAMED"));
        }
        java.arg("--add-opens=java.base/sun.nio.ch=ALL-UNNAMED");
        let path = [conf.to_path_buf(), self.dir.join("classes"), self.jars().join("*")];
        java.arg("-cp").arg(path.map(|part| part.display().to_string()).join(":"));
        java
    }
}

/// `SYNCD_TEST_SERVERS`, or a directory beside Cargo's own, so that `cargo clean` takes it along.
fn servers_dir() -> PathBuf {
    match std::env::var_os("SYNCD_TEST_SERVERS") {
        Some(dir) => dir.into(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("servers"),
    }
}

/// The last three of Hadoop's artifacts are for DistCp, as a peer. Without the pins the NameNode ends with
/// `ClassNotFoundException: JacksonFeature`.
fn pom_xml() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n"
        )
    };
    let jackson = "com.fasterxml.jackson.core";
    let pins = [("jackson-core", "2.12.7"), ("jackson-databind", "2.12.7.1"), ("jackson-annotations", "2.12.7")];
    let hadoop = [
        "hadoop-common",
        "hadoop-hdfs",
        "hadoop-distcp",
        "hadoop-mapreduce-client-jobclient",
        "hadoop-mapreduce-client-common",
    ];
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
         <groupId>syncd.test</groupId><artifactId>hdfs</artifactId><version>1</version>\n\
         <dependencyManagement><dependencies>\n{}</dependencies></dependencyManagement>\n\
         <dependencies>\n{}</dependencies>\n</project>\n",
        pins.map(|(artifact, version)| dependency(jackson, artifact, version)).concat(),
        hadoop.map(|artifact| dependency("org.apache.hadoop", artifact, VERSION)).concat(),
    )
}

/// A process in the background. A shell holds it: when the pipe to the shell closes, because this is dropped
/// or because the test process was killed, the shell kills it.
pub struct Daemon {
    shell: Mutex<Child>,
    log: PathBuf,
}

const WATCH: &str =
    "exec 3<&0; \"$@\" 3<&- </dev/null & pid=$!; { cat <&3 >/dev/null; kill -9 $pid; } 2>/dev/null & wait $pid";

impl Daemon {
    /// Both of its outputs go to `log`.
    pub fn spawn(command: &Command, log: &Path) -> Result<Self, String> {
        let out = File::options().create(true).append(true).open(log).map_err(text)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::piped()).stdout(out.try_clone().map_err(text)?).stderr(out);
        Ok(Self { shell: Mutex::new(shell.spawn().map_err(text)?), log: log.to_path_buf() })
    }

    fn has_ended(&self) -> bool {
        let mut shell = self.shell.lock().expect("no panic while it is locked");
        !matches!(shell.try_wait(), Ok(None))
    }

    /// The end of the log.
    pub fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(3000)..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Ok(shell) = self.shell.get_mut() else { return };
        drop(shell.stdin.take());
        let _ = shell.wait();
    }
}

/// A writer with files open. When it is dropped, it dies without closing them.
pub struct Holder {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Holder {
    /// Does one of the commands of `Writers.java` and returns once it is done.
    pub fn tell(&mut self, command: &str) -> Result<(), String> {
        let input = self.process.stdin.as_mut().ok_or("no input")?;
        writeln!(input, "{command}").map_err(text)?;
        self.answer(command)
    }

    fn answer(&mut self, command: &str) -> Result<(), String> {
        let mut line = String::new();
        self.said.read_line(&mut line).map_err(text)?;
        if line.trim() == "ok" { Ok(()) } else { Err(format!("{command}: {line}")) }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

struct Ports {
    rpc: u16,
    http: u16,
    data: u16,
    data_http: u16,
    data_ipc: u16,
}

impl Ports {
    /// Ports that were free a moment ago, all held until the last is found so that they differ.
    fn free() -> Result<Self, String> {
        let listeners: Result<Vec<_>, _> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
        let ports: Result<Vec<u16>, _> = listeners.map_err(text)?.iter().map(|l| Ok(l.local_addr()?.port())).collect();
        let ports = ports.map_err(|e: std::io::Error| text(e))?;
        Ok(Self { rpc: ports[0], http: ports[1], data: ports[2], data_http: ports[3], data_ipc: ports[4] })
    }
}

/// Why a condition does not hold.
enum Wait {
    /// Not yet.
    Longer(String),
    /// It never will.
    Over(String),
}

fn is_running(daemon: &Option<Daemon>) -> Result<(), Wait> {
    match daemon {
        Some(daemon) if daemon.has_ended() => Err(Wait::Over(daemon.last_words())),
        Some(_) => Ok(()),
        None => Err(Wait::Over("it was stopped".into())),
    }
}

/// Returns once `holds` is true.
///
/// # Errors
///
/// It was not for as long as a server may take to start.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    wait_until(what, || if holds() { Ok(()) } else { Err(Wait::Longer("not yet".into())) })
}

fn wait_until(what: &str, mut holds: impl FnMut() -> Result<(), Wait>) -> Result<(), String> {
    let until = Instant::now() + START_MAX;
    loop {
        match holds() {
            Ok(()) => return Ok(()),
            Err(Wait::Over(why)) => return Err(format!("waiting until {what}: {why}")),
            Err(Wait::Longer(why)) if Instant::now() > until => return Err(format!("not in time: {what}: {why}")),
            Err(Wait::Longer(_)) => std::thread::sleep(POLL_EVERY),
        }
    }
}

/// The body of a page. HTTP/1.0, so that it ends where the connection ends.
fn get(address: &str, path: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(text)?;
    stream.set_read_timeout(Some(HTTP_MAX)).map_err(text)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    Ok(body.to_owned())
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(text)?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(said(&output.stdout));
    }
    Err(format!("{:?}: {}\n{}{}", command.get_program(), output.status, said(&output.stdout), said(&output.stderr)))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
