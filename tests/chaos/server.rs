//! A Redis server of our own that writes everything down before it answers, and can be stopped and started again.

use super::{
    faults::Breakable,
    journal::{JOURNAL, Journal},
    watch::LOOK_EVERY,
};
use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a start may take: a machine with other work is slow.
const DEADLINE: Duration = Duration::from_secs(60);

/// What all keys of the store begin with.
pub(crate) const STORE: &str = "chaos-store";

/// Stopped when it is dropped.
pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
    process: Option<Child>,
    journal: Journal,
}

impl Server {
    /// A new one, with its data in this folder.
    pub(crate) async fn start(folder: &Path) -> io::Result<Self> {
        let mut last = io::Error::other("no try");
        // A port can be taken between the look and the start.
        for _ in 0..20 {
            // Below the range from which outgoing connections get theirs: whoever tries to connect while the server is
            // stopped could else be given this very port.
            let port = fastrand::u16(20_000..32_000);
            if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                last = error;
                continue;
            }
            let journal = Journal::new(&url(port), JOURNAL).map_err(io::Error::other)?;
            let mut server = Self { folder: folder.to_owned(), port, process: None, journal };
            match server.go_on().await {
                Ok(()) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// For commands of our own, and for reading what the workers note.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The names of all keys that match.
    pub(crate) async fn keys(&self, pattern: &str) -> BTreeSet<String> {
        let (mut cursor, mut found) = (0_u64, BTreeSet::new());
        loop {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
            let (next, keys): (u64, Vec<String>) = self.journal.send(&command).await;
            found.extend(keys);
            if next == 0 {
                return found;
            }
            cursor = next;
        }
    }

    /// How many keys the store has.
    pub(crate) async fn keys_of_the_store(&self) -> usize {
        self.keys(&format!("{STORE}:*")).await.len()
    }

    /// Waits until the store has no more keys than so many; answers how many it has.
    pub(crate) async fn until_cleared(&self, baseline: usize, limit: Duration) -> usize {
        let started = Instant::now();
        loop {
            let keys = self.keys_of_the_store().await;
            if keys <= baseline || started.elapsed() > limit {
                return keys;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Starts the process, on what it has written down, and waits until it answers.
    pub(crate) async fn go_on(&mut self) -> io::Result<()> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--port", &self.port.to_string()])
            .arg("--dir")
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let process = self.process.insert(child);
        let started = Instant::now();
        loop {
            if let Some(status) = process.try_wait()? {
                return Err(io::Error::other(format!("redis-server ended at its start: {status}")));
            }
            let mut info = redis::cmd("INFO");
            let answer: Result<String, _> = self.journal.try_send(info.arg("server")).await;
            // Another server may have been quicker on this port.
            if answer.is_ok_and(|info| info.contains(&format!("process_id:{}\r", process.id())))
                && self.journal.try_send::<u64>(&redis::cmd("DBSIZE")).await.is_ok()
            {
                return Ok(());
            }
            if started.elapsed() > DEADLINE {
                return Err(io::Error::other("redis-server did not answer in time"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the process: at once, or after it has closed its files.
    pub(crate) async fn stop(&mut self, at_once: bool) -> io::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let asked = if at_once { None } else { Some(self.journal.try_send::<()>(&redis::cmd("SHUTDOWN")).await) };
        let started = Instant::now();
        // The answer to SHUTDOWN is the end of the connection.
        while asked.is_some() && process.try_wait()?.is_none() && started.elapsed() < DEADLINE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Does nothing to one that has ended.
        process.kill()?;
        process.wait().map(drop)
    }
}

impl Breakable for Server {
    async fn stop(&mut self, at_once: bool) -> io::Result<()> {
        Server::stop(self, at_once).await
    }

    async fn go_on(&mut self) -> io::Result<()> {
        Server::go_on(self).await
    }

    async fn cut(&mut self, kind: &'static str) -> bool {
        let mut command = redis::cmd("CLIENT");
        command.arg("KILL").arg("TYPE").arg(kind).arg("SKIPME").arg("yes");
        self.journal.try_send::<u32>(&command).await.is_ok()
    }

    async fn flush(&mut self) -> bool {
        self.journal.try_send::<()>(redis::cmd("SCRIPT").arg("FLUSH")).await.is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}/0")
}
