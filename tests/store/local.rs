//! Servers that belong to one test.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// A redis-server of its own. It ends, and its data goes, when this is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    folder: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

/// A port of 127.0.0.1 on which nobody listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// A server that keeps nothing on disk unless the arguments say so. Without a redis-server on this machine the test
    /// is left out, unless all servers are required.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            let required = std::env::var("MAGEFLOW_TEST_REQUIRE").is_ok_and(|required| required == "all");
            assert!(!required, "there is no redis-server; run scripts/test store, which installs it");
            eprintln!("skipped: there is no redis-server; run scripts/test store, which installs it");
            return None;
        }
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..5 {
            let mut server = Self::new(free_port(), arguments);
            if server.run() {
                return Some(server);
            }
        }
        panic!("a redis-server with {arguments:?} does not start");
    }

    /// A server that is not started yet.
    pub(crate) fn new(port: u16, arguments: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("mageflow-store-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { port, folder, arguments, child: None }
    }

    /// Starts it, again if it was stopped, and waits until it answers. False if it ended instead.
    pub(crate) fn run(&mut self) -> bool {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--dir"])
            .arg(&self.folder)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        self.child = Some(child);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            if self.answers_as(pid) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the redis-server on port {port} does not answer");
    }

    /// Whether the server on the port is this one, and has read its data. One with a password says so to whoever asks.
    fn answers_as(&self, pid: u32) -> bool {
        let Ok(mut connection) = self.client().get_connection() else { return false };
        match redis::cmd("INFO").query::<String>(&mut connection) {
            Ok(info) => info.contains(&format!("process_id:{pid}\r")) && info.contains("loading:0"),
            Err(error) => error.code() == Some("NOAUTH"),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    /// Has the server carry out a command.
    pub(crate) fn tell<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        tell(&self.url(), words)
    }

    /// How many keys there are.
    pub(crate) fn size(&self) -> u64 {
        self.tell(&["DBSIZE"])
    }

    /// Ends it at once, without a chance to write anything.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().unwrap().id();
        assert!(Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Has the server at a URL carry out a command.
pub(crate) fn tell<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).unwrap()
}

/// Ends the connections of all clients of a kind: `normal` or `pubsub`. Gives how many there were.
pub(crate) fn kill_clients(url: &str, kind: &str) -> u64 {
    tell(url, &["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"])
}
