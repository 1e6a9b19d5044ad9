//! A private redis-server, what it counts, and what it was told.

use redis::{Cmd, Pipeline, RedisResult, Value, aio::MultiplexedConnection};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A server that nobody else uses and that keeps nothing. It ends, and its folder disappears, when this is dropped.
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Server {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let folder = std::env::temp_dir().join(format!("mageflow-bench-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"])
            .arg(&folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let server = Self { child, folder, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL");
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&patient).await.expect("a connection")
    }

    /// A connection, after everything that the server held has gone.
    pub(crate) async fn emptied(&self) -> MultiplexedConnection {
        let mut connection = self.connect().await;
        let _: Value = redis::cmd("FLUSHALL").arg("SYNC").query_async(&mut connection).await.expect("an answer");
        connection
    }

    /// Writes down everything that the server is told from now on.
    pub(crate) fn record(&self) -> Recorder {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.write_all(b"MONITOR\r\n").expect("a monitor");
        let mut lines = BufReader::new(stream);
        let mut answer = String::new();
        lines.read_line(&mut answer).expect("an answer");
        Recorder(std::thread::spawn(move || {
            let lines = lines.split(b'\n').map(|line| line.expect("a line"));
            lines.map(|line| Told::parse(&line)).take_while(|told| told.words[0] != LAST).collect()
        }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The command that ends a recording.
const LAST: &[u8] = b"lolwut";

/// A command that the server was told.
pub(crate) struct Told {
    pub(crate) words: Vec<Vec<u8>>,
    /// Whether a script told it, and no client.
    pub(crate) by_script: bool,
}

pub(crate) struct Recorder(JoinHandle<Vec<Told>>);

impl Recorder {
    pub(crate) async fn stop(self, connection: &mut MultiplexedConnection) -> Vec<Told> {
        let _: Value = redis::cmd("lolwut").query_async(connection).await.expect("an answer");
        self.0.join().expect("a recording")
    }
}

impl Told {
    /// A line such as `+1700000000.000000 [0 lua] "HGET" "key" "a\x00b"`.
    fn parse(line: &[u8]) -> Self {
        let quoted = line.iter().position(|byte| *byte == b'"').unwrap_or(line.len());
        let by_script = line[..quoted].windows(5).any(|window| window == b" lua]");
        let (mut words, mut rest) = (Vec::new(), line[quoted..].iter().copied());
        while rest.next() == Some(b'"') {
            let mut word = Vec::new();
            while let Some(byte) = rest.next().filter(|byte| *byte != b'"') {
                word.push(if byte == b'\\' { escaped(&mut rest) } else { byte });
            }
            words.push(word);
            rest.next();
        }
        if words.is_empty() {
            words.push(Vec::new());
        }
        words[0].make_ascii_lowercase();
        Self { words, by_script }
    }

    /// Whether a client told it to run a script.
    pub(crate) fn is_script(&self) -> bool {
        matches!(&*self.words[0], b"eval" | b"evalsha")
    }

    fn command(&self) -> Cmd {
        let mut command = Cmd::new();
        self.words.iter().for_each(|word| {
            command.arg(word.as_slice());
        });
        command
    }
}

fn escaped(rest: &mut impl Iterator<Item = u8>) -> u8 {
    match rest.next() {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(b'a') => 7,
        Some(b'b') => 8,
        Some(b'x') => {
            let digits = [rest.next(), rest.next()].map(|digit| char::from(digit.unwrap_or(b'0')));
            u8::from_str_radix(&String::from_iter(digits), 16).expect("two digits")
        }
        Some(byte) => byte,
        None => b'\\',
    }
}

/// Commands a batch that is sent without waiting for answers.
const BATCH: usize = 1000;

/// Seconds that commands take when they are sent in batches, one batch after the other.
pub(crate) async fn replay(connection: &mut MultiplexedConnection, commands: &[&Told]) -> f64 {
    // Made before, so that nothing but the server and the way there is measured.
    let batches: Vec<Pipeline> = commands.chunks(BATCH).map(batch).collect();
    let start = Instant::now();
    for batch in &batches {
        let answers: RedisResult<Vec<Value>> = batch.query_async(connection).await;
        answers.expect("answers");
    }
    start.elapsed().as_secs_f64()
}

fn batch(commands: &[&Told]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    commands.iter().for_each(|told| {
        pipeline.add_command(told.command());
    });
    pipeline
}

/// What the server has counted up to a moment.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) bytes_in: f64,
    pub(crate) bytes_out: f64,
    pub(crate) memory: f64,
    /// Seconds of processor time.
    pub(crate) busy: f64,
    /// Calls and microseconds of each command.
    pub(crate) commands: BTreeMap<String, (f64, f64)>,
}

impl Counts {
    pub(crate) async fn now(connection: &mut MultiplexedConnection) -> Self {
        let info: String = redis::cmd("INFO").arg("all").query_async(connection).await.expect("INFO");
        let mut counts = Self::default();
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            if let Some(command) = name.strip_prefix("cmdstat_") {
                counts.commands.insert(command.into(), (field(value, "calls"), field(value, "usec")));
            }
            match name {
                "total_net_input_bytes" => counts.bytes_in = number(value),
                "total_net_output_bytes" => counts.bytes_out = number(value),
                "used_memory" => counts.memory = number(value),
                "used_cpu_user" | "used_cpu_sys" => counts.busy += number(value),
                _ => {}
            }
        }
        counts
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        let commands = self.commands.iter().map(|(name, (calls, micros))| {
            let (calls_before, micros_before) = before.commands.get(name).copied().unwrap_or_default();
            (name.clone(), (calls - calls_before, micros - micros_before))
        });
        Self {
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
            memory: self.memory - before.memory,
            busy: self.busy - before.busy,
            commands: commands.filter(|(name, (calls, _))| *calls > 0.0 && name != "info").collect(),
        }
    }

    /// Scripts that were run, and the commands that they gave.
    pub(crate) fn scripts_and_commands(&self) -> (f64, f64) {
        let all: f64 = self.commands.values().map(|(calls, _)| calls).sum();
        let scripts: f64 = self
            .commands
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "eval" | "evalsha"))
            .map(|(_, (calls, _))| calls)
            .sum();
        (scripts, all - scripts)
    }
}

fn number(text: &str) -> f64 {
    text.trim().parse().unwrap_or(0.0)
}

fn field(value: &str, name: &str) -> f64 {
    value.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map_or(0.0, number)
}
